"""Swap two databases by renaming both at once: fence writes, refuse connections, cut over.

A lock on every table fences writes; reads continue. Connections are refused only during the cut-over: new ones are refused
first, then the present ones are ended, so that none returns in between.
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

GRACE = 5.0  # seconds for sessions to end
RECORDS_TIMEOUT = 600.0  # seconds
TRIES = (*LADDER, 2000)  # milliseconds to wait for the fence; autovacuum yields within the last


@contextmanager
def fenced(postgres: Postgres, live: str, waiting: Callable[[Sequence[Blocker]], None]) -> Iterator[Connection]:
    """Block writes to every table of a database while the block runs; reads continue. Changes the target.

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
            listed = "; ".join(map(str, in_the_way)) or "no visible session"
            raise PreconditionError(
                f"Writes could not be fenced. Blocked by: {listed}",
                where=f"database {live}",
                state="Nothing was changed: each try was rolled back.",
                safe_next="Let those sessions end, or end each by its pid; then run the step again.",
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
        holder: The connection that fences the live database; this function closes it at its turn.
        last: Runs once nobody else is connected, while `holder` still is; it must leave no connection open.
        renamed: Runs in the transaction of the cut-over.
        ended: Receives the sessions that were ended.

    Returns:
        The seconds during which nobody could connect.

    Raises:
        PreconditionError: A session could not be ended; connections are allowed again.
    """
    with postgres.connect(MAINTENANCE) as maintenance:
        begun = time.monotonic()
        let_in(maintenance, live, False)
        try:
            ended(_emptied(maintenance, live, holder.info.backend_pid))
            one(holder, "SELECT 1 AS it")  # detects a lost fence before anything is renamed
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
    """Return the statements that end all sessions of a database, and those that then swap the names. Read-only."""
    with written_down(maintenance) as first:
        let_in(maintenance, live, False)
    with written_down(maintenance) as then:
        _exchange(maintenance, live, incoming, outgoing)
    names = sql.SQL(", ").join(map(sql.Literal, (live, incoming)))
    end = sql.SQL("SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({})").format(names)
    return [*first, end.as_string(maintenance)], then


def let_in(maintenance: Connection, database: str, it_does: bool) -> None:
    """Let a database accept connections, or refuse them. Changes the target."""
    word = sql.SQL("true" if it_does else "false")
    maintenance.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(database), word))


def bring_records(tools: DumpTools, live: Connection, target: Connection, scratch: Path) -> None:
    """Copy the runbook's own tables, in their present state, from the live database into `target`, replacing those there.

    This leaves less to do behind a fence. Changes the target.
    """
    if not (own := _own(live)):
        return
    path = scratch / "records.dump"
    tools.dump_part(path, RECORDS_TIMEOUT, f"--table={OWN_SCHEMA}.*")
    make_own_schema(target)
    target.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_listed(own)))
    tools.restore(path, target.info.dbname, RECORDS_TIMEOUT)


def carry_records(tools: DumpTools, holder: Connection, target: Connection, scratch: Path) -> None:
    """Make the runbook's own tables in `target` equal to those of the live database. Changes the target.

    They stay locked in the live one until `holder` ends, so that no record is lost. If they were copied before, and are
    still defined the same, only their rows are copied.
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
    """Return the runbook's own tables, each with its columns and constraints as text. Read-only."""
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
    """Whether this began a transaction that holds a lock against writes on each table."""
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
    """End every session of a database; return them."""
    return end_all(
        maintenance,
        partial(of_database, maintenance, database, but),
        GRACE,
        where=f"database {database}",
        state="The database names are unchanged, and connections are allowed again.",
    )


# Settings that hold lists of quoted names: FROM CURRENT copies such a text unchanged.
LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "temp_tablespaces",
}

Grant = tuple[str, str, bool]  # grantee ("" is PUBLIC), privilege, with grant option
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
    """Return the attributes of a database of this server. Read-only."""
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


def differing_settings(expected: Attributes, found: Attributes, *, comment: bool = True) -> list[str]:
    """Return a line for each item of `expected` that another database lacks or has differently. Pure."""
    lines = [
        f"{name} is {getattr(found, name)!r}, not {getattr(expected, name)!r}"
        for name in ("owner", "limit", *(["comment"] if comment else []))
        if getattr(expected, name) != getattr(found, name)
    ]
    for name in ("grants", "settings"):
        lines += [f"{name}: {item} is missing" for item in sorted(getattr(expected, name) - getattr(found, name))]
        lines += [f"{name}: {item} is extra" for item in sorted(getattr(found, name) - getattr(expected, name))]
    return lines


def copy_settings(connection: Connection, expected: Attributes, database: str, *, comment: bool = True) -> None:
    """Give a database the expected limit, grants, settings and comment, if they differ. Changes the target."""
    found, name = attributes(connection, database), sql.Identifier(database)
    if found.limit != expected.limit:
        connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, sql.Literal(expected.limit)))
    if comment and found.comment != expected.comment:
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(expected.comment)))
    for grantee, privilege, _ in sorted(found.grants - expected.grants):
        connection.execute(sql.SQL(f"REVOKE {privilege} ON DATABASE {{}} FROM {{}}").format(name, _role(grantee)))
    for grantee, privilege, onward in sorted(expected.grants - found.grants):
        option = sql.SQL(" WITH GRANT OPTION" if onward else "")
        connection.execute(sql.SQL(f"GRANT {privilege} ON DATABASE {{}} TO {{}}{{}}").format(name, _role(grantee), option))
    for role, setting, _ in sorted(found.settings - expected.settings):
        _alter(connection, database, role, setting, None)
    for role, setting, value in sorted(expected.settings - found.settings):
        _alter(connection, database, role, setting, value)


def _alter(connection: Connection, database: str, role: str, setting: str, value: str | None) -> None:
    """Set or reset one setting of a database, for all roles or, acting as that role, for one."""
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
