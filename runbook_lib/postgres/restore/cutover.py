"""Puts one database in another's place by renaming both at once: writes fenced, connections refused, then the cut-over.

Writes are fenced by a lock on every table, under which reading goes on. Connections are refused for the cut-over alone: new
ones first, then the present ones are ended, so that none comes back in between.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from psycopg import errors, sql

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.blockers import Blocker, watched
from runbook_lib.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.postgres.connection import MAINTENANCE, Postgres, copied, one
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.postgres.lock_budget import LADDER
from runbook_lib.postgres.restore.staging_database import tables
from runbook_lib.postgres.script import written_down
from runbook_lib.postgres.sessions import Session, end_all, of_database

GRACE = 5.0  # seconds that sessions have to end
RECORDS_TIMEOUT = 600.0  # seconds
TRIES = (*LADDER, 2000)  # milliseconds to wait for the fence; the last outlasts the time after which autovacuum gives way


@contextmanager
def fenced(postgres: Postgres, live: str, waiting: Callable[[Sequence[Blocker]], None]) -> Iterator[Connection]:
    """Let nothing be written to any table of a database while the block runs; reading goes on. Changes the target.

    Yields the connection that holds the fence, in a transaction.

    Raises:
        PreconditionError: The locks could not be acquired.
    """
    with postgres.connect(live) as holder:
        for timeout in TRIES:
            with watched(lambda: postgres.connect(MAINTENANCE), holder.info.backend_pid) as in_the_way:
                if _locked(holder, tables(holder), timeout):
                    break
            waiting(in_the_way)
        else:
            listed = "; ".join(map(str, in_the_way)) or "nobody who could be seen"
            raise PreconditionError(
                f"Writes could not be fenced; in the way: {listed}",
                where=f"database {live}",
                state="Nothing was changed: each try was rolled back.",
                safe_next="Let those sessions end, or end them one by one by their pid; then run the step again.",
            )
        yield holder


def cut_over(
    postgres: Postgres,
    live: str,
    incoming: str,
    outgoing: str,
    holder: Connection,
    *,
    last: Callable[[], None],
    renamed: Callable[[Connection], None],
    ended: Callable[[list[Session]], None],
) -> float:
    """Rename `live` to `outgoing` and `incoming` to `live`, in one transaction. Changes the target.

    Args:
        holder: The connection that fences the live database; it is closed when its turn has come.
        last: What is done once nobody else is connected, while `holder` still is; it leaves no connection of its own.
        renamed: What belongs into the transaction of the cut-over.
        ended: Gets which sessions were ended.

    Returns:
        The seconds for which nobody could connect.

    Raises:
        PreconditionError: A session could not be ended; connections are let in again.
    """
    with postgres.connect(MAINTENANCE) as maintenance:
        begun = time.monotonic()
        let_in(maintenance, live, False)
        try:
            ended(_emptied(maintenance, live, holder.info.backend_pid))
            one(holder, "SELECT 1 AS it")  # a fence that was lost must be known before anything is renamed
            last()
            holder.close()
            ended([*_emptied(maintenance, live), *_emptied(maintenance, incoming)])
            with maintenance.transaction():
                _exchange(maintenance, live, incoming, outgoing)
                renamed(maintenance)
        except BaseException:
            let_in(maintenance, live, True)
            raise
        return time.monotonic() - begun


def _exchange(maintenance: Connection, live: str, incoming: str, outgoing: str) -> None:
    for old, new in ((live, outgoing), (incoming, live)):
        maintenance.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))
    let_in(maintenance, outgoing, True)


def by_hand(maintenance: Connection, live: str, incoming: str, outgoing: str) -> tuple[list[str], list[str]]:
    """The statements that send everybody away from a database, and those that exchange the names then. Read-only."""
    with written_down(maintenance) as first:
        let_in(maintenance, live, False)
    with written_down(maintenance) as then:
        _exchange(maintenance, live, incoming, outgoing)
    names = sql.SQL(", ").join(map(sql.Literal, (live, incoming)))
    end = sql.SQL("SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({})").format(names)
    return [*first, end.as_string(maintenance)], then


def let_in(maintenance: Connection, database: str, it_does: bool) -> None:
    """Have a database take connections or refuse them. Changes the target."""
    word = sql.SQL("true" if it_does else "false")
    maintenance.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(database), word))


def bring_records(tools: DumpTools, live: Connection, target: Connection, scratch: Path) -> None:
    """Bring the runbook's own tables, as they are now, from the live database into `target`, in place of what is there.

    So that less is left to be done behind a fence. Changes the target.
    """
    if not (own := _own(live)):
        return
    path = scratch / "records.dump"
    tools.dump_part(path, RECORDS_TIMEOUT, f"--table={OWN_SCHEMA}.*")
    make_own_schema(target)
    target.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_listed(own)))
    tools.restore(path, target.info.dbname, RECORDS_TIMEOUT)


def carry_records(tools: DumpTools, holder: Connection, target: Connection, scratch: Path) -> None:
    """Have `target` hold what the runbook's own tables of the live database hold; its own there go. Changes the target.

    They stay locked in the live one until `holder` ends, so that no record is lost. Where they were brought before, and are
    still defined so, their rows alone are copied.
    """
    if not (own := _own(holder)):
        return
    _lock(holder, [(OWN_SCHEMA, name) for name in own])
    there = _own(target)
    if any(there.get(name) != columns for name, columns in own.items()):
        bring_records(tools, holder, target, scratch)
        return
    with target.transaction():
        target.execute(sql.SQL("TRUNCATE {}").format(_listed(own)))
        for name in own:
            table = sql.Identifier(OWN_SCHEMA, name)
            copied(holder, sql.SQL("COPY {} TO STDOUT").format(table), target, sql.SQL("COPY {} FROM STDIN").format(table))


def _own(connection: Connection) -> dict[str, str]:
    """The runbook's own tables, each with its columns and constraints as text. Read-only."""
    rows = connection.execute(
        """SELECT c.relname AS name, concat_ws(', ',
               (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
                FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
               (SELECT string_agg(pg_get_constraintdef(k.oid), ', ' ORDER BY k.conname)
                FROM pg_constraint k WHERE k.conrelid = c.oid)) AS columns
           FROM pg_class c WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind = 'r' ORDER BY 1""",
        [OWN_SCHEMA],
    )
    return {row["name"]: row["columns"] for row in rows}


def _listed(own: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(OWN_SCHEMA, name) for name in own)


def _locked(holder: Connection, names: Sequence[tuple[str, str]], timeout: int) -> bool:
    """Whether a transaction was begun that holds a lock against writing on each table."""
    holder.execute("BEGIN")
    try:
        holder.execute(f"SET LOCAL lock_timeout = '{timeout}ms'")
        holder.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        _lock(holder, names)
    except (errors.LockNotAvailable, errors.DeadlockDetected):
        holder.execute("ROLLBACK")
        return False
    return True


def _lock(holder: Connection, names: Sequence[tuple[str, str]]) -> None:
    listed = sql.SQL(", ").join(sql.Identifier(*name) for name in names)
    holder.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(listed))


def _emptied(maintenance: Connection, database: str, but: int = 0) -> list[Session]:
    """End every session of a database; returns those that were there."""
    return end_all(
        maintenance,
        partial(of_database, maintenance, database, but),
        GRACE,
        where=f"database {database}",
        state="The names of the databases are as before, and connections are let in again.",
    )


# These hold lists of names, which are quoted one by one: they are set from a session that holds the very same text.
LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "temp_tablespaces",
}

Grant = tuple[str, str, bool]  # grantee ("" is everybody), privilege, whether it may be granted on
Setting = tuple[str, str, str]  # role ("" is all), name, value


@dataclass(frozen=True)
class Attributes:
    """Owner, limit, comment, grants and settings of a database."""

    owner: str
    limit: int
    comment: str | None
    grants: frozenset[Grant]
    settings: frozenset[Setting]


def attributes(connection: Connection, database: str) -> Attributes:
    """What hangs on a database of this server. Read-only."""
    row = one(
        connection,
        """SELECT oid, pg_get_userbyid(datdba) AS owner, datconnlimit AS limit,
                  shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = %s""",
        [database],
    )
    grants = connection.execute(
        """SELECT DISTINCT CASE WHEN grantee = 0 THEN '' ELSE pg_get_userbyid(grantee)::text END AS grantee,
                  privilege_type AS privilege, is_grantable AS onward
           FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE oid = %s""",
        [row["oid"]],
    )
    settings = connection.execute(
        """SELECT CASE WHEN setrole = 0 THEN '' ELSE pg_get_userbyid(setrole)::text END AS role, entry
           FROM pg_db_role_setting, unnest(setconfig) entry WHERE setdatabase = %s""",
        [row["oid"]],
    )
    return Attributes(
        owner=row["owner"],
        limit=row["limit"],
        comment=row["comment"],
        grants=frozenset((g["grantee"], g["privilege"], g["onward"]) for g in grants),
        settings=frozenset((s["role"], *s["entry"].split("=", 1)) for s in settings),
    )


def differing_settings(wanted: Attributes, found: Attributes, *, comment: bool = True) -> list[str]:
    """What of `wanted` another database lacks or has otherwise, a line each. Pure."""
    lines = [
        f"{name} is {getattr(found, name)!r}, not {getattr(wanted, name)!r}"
        for name in ("owner", "limit", *(["comment"] if comment else []))
        if getattr(wanted, name) != getattr(found, name)
    ]
    for name in ("grants", "settings"):
        lines += [f"{name}: {item} is missing" for item in sorted(getattr(wanted, name) - getattr(found, name))]
        lines += [f"{name}: {item} is too much" for item in sorted(getattr(found, name) - getattr(wanted, name))]
    return lines


def copy_settings(connection: Connection, wanted: Attributes, database: str, *, comment: bool = True) -> None:
    """Give a database the limit, grants, settings and comment wanted, where they are not so yet. Changes the target."""
    found, name = attributes(connection, database), sql.Identifier(database)
    if found.limit != wanted.limit:
        connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, sql.Literal(wanted.limit)))
    if comment and found.comment != wanted.comment:
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(wanted.comment)))
    for grantee, privilege, _ in sorted(found.grants - wanted.grants):
        connection.execute(sql.SQL(f"REVOKE {privilege} ON DATABASE {{}} FROM {{}}").format(name, _role(grantee)))
    for grantee, privilege, onward in sorted(wanted.grants - found.grants):
        option = sql.SQL(" WITH GRANT OPTION" if onward else "")
        connection.execute(sql.SQL(f"GRANT {privilege} ON DATABASE {{}} TO {{}}{{}}").format(name, _role(grantee), option))
    for role, setting, _ in sorted(found.settings - wanted.settings):
        _alter(connection, database, role, setting, None)
    for role, setting, value in sorted(wanted.settings - found.settings):
        _alter(connection, database, role, setting, value)


def _alter(connection: Connection, database: str, role: str, setting: str, value: str | None) -> None:
    """Set or reset one setting of a database, for all or for one role, in whose name it is done."""
    whose = sql.SQL("ROLE {} IN DATABASE {}" if role else "DATABASE {1}").format(
        sql.Identifier(role or "-"), sql.Identifier(database)
    )
    name = sql.SQL(".").join(map(sql.Identifier, setting.split(".")))
    with connection.transaction():
        if role:
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        if value is None:
            connection.execute(sql.SQL("ALTER {} RESET {}").format(whose, name))
        elif setting in LISTS:
            connection.execute("SELECT set_config(%s, %s, true)", [setting, value])
            connection.execute(sql.SQL("ALTER {} SET {} FROM CURRENT").format(whose, name))
        else:
            connection.execute(sql.SQL("ALTER {} SET {} TO {}").format(whose, name, sql.Literal(value)))
        if role:
            connection.execute("RESET ROLE")


def _role(name: str) -> sql.Composable:
    return sql.Identifier(name) if name else sql.SQL("PUBLIC")
