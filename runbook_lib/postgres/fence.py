"""Keeps a role out of the database: refuses its new connections, then ends the existing ones. Lets it in again later.

The transaction that raises the fence also records what was there before, so lowering the fence restores exactly that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from psycopg import sql
from psycopg.types.json import Jsonb

from runbook_lib.config.plan import Database
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.script import script, written_down
from runbook_lib.postgres.sessions import Session, end_all, of_role

Grant = tuple[str, bool]  # who may connect, "" for everybody, and whether they may grant it on


def to_connect(connection: Connection) -> list[Grant]:
    """List who may connect to this database, as its owner granted it. Read-only."""
    rows = connection.execute(
        """SELECT CASE WHEN grantee = 0 THEN '' ELSE pg_get_userbyid(grantee)::text END AS grantee, is_grantable AS onward
           FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
           WHERE datname = current_database() AND privilege_type = 'CONNECT' AND grantor = datdba ORDER BY 1"""
    )
    return [(row["grantee"], row["onward"]) for row in rows]


def paths(connection: Connection, role: str) -> list[str]:
    """List the grants by which a role may connect: its own, everybody's, and those of its groups. Read-only."""
    names = [grantee for grantee, _ in to_connect(connection)]
    query = "SELECT n FROM unnest(%s::text[]) n WHERE CASE n WHEN '' THEN true ELSE pg_has_role(%s, n::name, 'USAGE') END"
    return [row["n"] for row in connection.execute(query, [names, role])]


def lost_with(connection: Connection, role: str) -> list[str]:
    """List the other roles that could not connect either if `role` lost every grant by which it may. Read-only."""
    through = paths(connection, role)
    kept = [grantee for grantee, _ in to_connect(connection) if grantee not in through]
    rows = connection.execute(
        """SELECT rolname AS name FROM pg_roles r
           WHERE rolcanlogin AND NOT rolsuper AND rolname NOT IN (%s, session_user)
             AND has_database_privilege(oid, current_database(), 'CONNECT')
             AND NOT EXISTS (SELECT FROM unnest(%s::text[]) k WHERE pg_has_role(r.oid, k::name, 'USAGE')) ORDER BY 1""",
        [role, kept],
    )
    return [row["name"] for row in rows]


def revoke_connect(connection: Connection, grantees: list[str]) -> None:
    """Revoke the right to connect to this database from each of `grantees`. Changes the target."""
    for grantee in grantees:
        query = sql.SQL("REVOKE CONNECT ON DATABASE {} FROM {}").format(_database(connection), _named(grantee))
        connection.execute(query)


def grant_connect(connection: Connection, given: list[Grant]) -> None:
    """Grant the right to connect to this database. Changes the target."""
    for grantee, onward in given:
        option = sql.SQL("WITH GRANT OPTION" if onward else "")
        query = sql.SQL("GRANT CONNECT ON DATABASE {} TO {} {}").format(_database(connection), _named(grantee), option)
        connection.execute(query)


def _database(connection: Connection) -> sql.Identifier:
    return sql.Identifier(connection.info.dbname)


def _named(grantee: str) -> sql.Composable:
    return sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")


def owner_not_ours(connection: Connection, database: Database) -> str:
    """Name the owner of the plan's table if our role may not act for it; "" if it may. Read-only."""
    row = one(
        connection,
        """SELECT pg_has_role(relowner, 'USAGE') AS ours, relowner::regrole::text AS owner FROM pg_class
           WHERE oid = to_regclass(quote_ident(%s) || '.' || quote_ident(%s))""",
        [database.schema_, database.table],
    )
    return "" if row["ours"] else str(row["owner"])


def outranks(connection: Connection, role: str) -> bool:
    """Report whether a role is a superuser and ours is not. Read-only."""
    query = """SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s AND rolsuper)
                      AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS it"""
    return bool(one(connection, query, [role])["it"])


TABLE = sql.Identifier(OWN_SCHEMA, "fence")
GRACE = 10.0  # seconds that a role's sessions have to end

Way = Literal["NOLOGIN", "REVOKE CONNECT"]


@dataclass(frozen=True)
class Fence:
    """A raised fence: how it keeps a role out, which run raised it, and what was there before."""

    role: str
    way: Way
    before: list[Any]
    run: str


@dataclass(frozen=True)
class Rights:
    """The facts that decide whether our role may keep another out of this database."""

    exists: bool
    ours: bool  # the role is our own
    superuser: bool  # the role is a superuser
    we_are_superuser: bool
    may_alter: bool  # we have CREATEROLE, with ADMIN OPTION on this role if the server requires it
    owner: bool  # we may do what the database's owner may
    beyond: list[str]  # grantors whose grants let the role in and that the owner cannot revoke

    def way(self) -> tuple[Way | None, str]:
        """Return how the role can be kept out, and why not in a better way or not at all. Pure."""
        if not self.exists or self.ours:
            return None, "it is our own role" if self.ours else "there is no such role"
        if self.we_are_superuser or (self.may_alter and not self.superuser):
            return "NOLOGIN", "our role may alter it"
        if self.superuser:
            return None, "it is a superuser, whom only a superuser can keep out"
        if not self.owner:
            return None, "our role may neither alter it nor revoke its right to connect"
        if self.beyond:
            return None, f"it may connect by a grant that the owner cannot revoke: {', '.join(self.beyond)}"
        return "REVOKE CONNECT", "our role may not alter it, but acts for the database's owner"


def rights(connection: Connection, role: str) -> Rights:
    """Read the facts that decide whether our role may keep `role` out. Read-only."""
    row = one(
        connection,
        """SELECT r.oid IS NOT NULL AS exists, coalesce(r.oid = us.oid, false) AS ours,
                  coalesce(r.rolsuper, false) AS superuser, us.rolsuper AS we_are_superuser,
                  us.rolcreaterole AND (current_setting('server_version_num')::int < 160000
                      OR coalesce(pg_has_role(us.oid, r.oid, 'MEMBER WITH ADMIN OPTION'), false)) AS may_alter,
                  pg_has_role(us.oid, d.datdba, 'USAGE') AS owner,
                  ARRAY(SELECT a.grantor::regrole::text
                        FROM aclexplode(d.datacl) a WHERE a.privilege_type = 'CONNECT' AND a.grantor <> d.datdba
                        AND (a.grantee = 0 OR pg_has_role(r.oid, a.grantee, 'USAGE'))
                        UNION SELECT us.rolname WHERE pg_has_role(r.oid, us.oid, 'USAGE')) AS beyond
           FROM pg_database d JOIN pg_roles us ON us.rolname = session_user LEFT JOIN pg_roles r ON r.rolname = %s
           WHERE d.datname = current_database()""",
        [role],
    )
    return Rights(**row)


def gets_in(connection: Connection, role: str) -> bool:
    """Report whether the catalog lets a role connect to this database. Read-only."""
    row = connection.execute(
        """SELECT rolcanlogin AND (rolsuper OR rolconnlimit <> 0)
                  AND has_database_privilege(oid, current_database(), 'CONNECT') AS it
           FROM pg_roles WHERE rolname = %s""",
        [role],
    ).fetchone()
    return bool(row and row["it"])


def standing(connection: Connection, role: str) -> Fence | None:
    """Find the fence that keeps a role out, by our record. Read-only."""
    if not exists(connection, TABLE):
        return None
    query = sql.SQL("SELECT role, way, before, run FROM {} WHERE role = %s").format(TABLE)
    row = connection.execute(query, [role]).fetchone()
    return Fence(**row) if row else None


def way_to_keep_out(connection: Connection, role: str) -> Way:
    """Return how a role can be kept out of this database. Read-only.

    Raises:
        PreconditionError: It cannot be kept out.
    """
    way, why = rights(connection, role).way()
    if way is None:
        raise _refused(role, why)
    return way


def raise_fence(connection: Connection, role: str, run: str) -> Fence:
    """Keep a role out of this database from now on; its connections stay open. Changes the target.

    Raises:
        PreconditionError: It cannot be kept out; nothing was changed.
    """
    way = way_to_keep_out(connection, role)
    with connection.transaction():
        fence = _keep_out(connection, role, way, run)
        if gets_in(connection, role):
            raise _refused(role, f"it still can connect after {fence.way}")
    return fence


def _keep_out(connection: Connection, role: str, way: Way, run: str) -> Fence:
    _prepare(connection)
    fence = standing(connection, role) or _record(connection, role, way, run)
    if fence.way == "NOLOGIN":
        connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
    else:
        revoke_connect(connection, paths(connection, role))
        if not one(connection, "SELECT has_database_privilege(session_user, current_database(), 'CONNECT') AS it")["it"]:
            grant_connect(connection, [(_ours(connection), False)])
    return fence


def _ours(connection: Connection) -> str:
    return str(one(connection, "SELECT session_user AS us")["us"])


def fence_by_hand(connection: Connection, role: str, run: str) -> str:
    """Write a script that keeps a role out, ends its sessions, and records what was there before. Read-only.

    Raises:
        PreconditionError: It cannot be kept out.
    """
    way = way_to_keep_out(connection, role)
    with written_down(connection) as statements:
        _keep_out(connection, role, way, run)
        if way == "REVOKE CONNECT":  # our own right to connect may be among those revoked
            grant_connect(connection, [(_ours(connection), False)])
    end = sql.SQL("SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {} AND datname = {}")
    ended = end.format(sql.Literal(role), sql.Literal(connection.info.dbname)).as_string(connection)
    return f"{script(statements)}\n{ended};"


def let_in_by_hand(connection: Connection, role: str) -> str:
    """Write a script that restores a role's present right to connect, or what a raised fence has taken. Read-only."""
    up = standing(connection, role)
    way = up.way if up else way_to_keep_out(connection, role)
    with written_down(connection) as statements:
        if way == "NOLOGIN":
            connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)))
        else:
            before = [(grantee, onward) for grantee, onward in up.before] if up else to_connect(connection)
            grant_connect(connection, before)
            if (ours := _ours(connection)) not in dict(before):
                revoke_connect(connection, [ours])
        _forget(connection, role)
    return script(statements)


def lower_fence(connection: Connection, role: str) -> Fence | None:
    """Restore exactly what was there before a role was kept out; None if there is no fence. Changes the target."""
    with connection.transaction():
        fence = standing(connection, role)
        if fence is None:
            return None
        if fence.way == "NOLOGIN":
            if fence.before[0]:
                connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)))
        else:
            before, now = {(grantee, onward) for grantee, onward in fence.before}, set(to_connect(connection))
            revoke_connect(connection, [grantee for grantee, _ in sorted(now - before)])
            grant_connect(connection, sorted(before - now))
        _forget(connection, role)
    return fence


def end_sessions(connection: Connection, role: str, ending: Callable[[Session], None]) -> None:
    """End each session of a role on this database and report each; needs a raised fence. Changes the target.

    Raises:
        PreconditionError: Some sessions did not end in time.
    """
    end_all(
        connection,
        partial(of_role, connection, role),
        GRACE,
        where=f"database {connection.info.dbname}",
        state="The fence is up: no new session can start.",
        ending=ending,
    )


def _prepare(connection: Connection) -> None:
    make_own_schema(connection)
    connection.execute(
        sql.SQL("""CREATE TABLE IF NOT EXISTS {} (role text PRIMARY KEY, way text NOT NULL, before jsonb NOT NULL,
                   run text NOT NULL, at timestamptz NOT NULL DEFAULT now())""").format(TABLE)
    )


def _record(connection: Connection, role: str, way: Way, run: str) -> Fence:
    login = "SELECT rolcanlogin AS it FROM pg_roles WHERE rolname = %s"
    before = (
        [one(connection, login, [role])["it"]] if way == "NOLOGIN" else [list(grant) for grant in to_connect(connection)]
    )
    query = sql.SQL("INSERT INTO {} (role, way, before, run) VALUES (%s, %s, %s, %s)").format(TABLE)
    connection.execute(query, [role, way, Jsonb(before), run])
    return Fence(role, way, before, run)


def _forget(connection: Connection, role: str) -> None:
    connection.execute(sql.SQL("DELETE FROM {} WHERE role = %s").format(TABLE), [role])


def _refused(role: str, why: str) -> PreconditionError:
    return PreconditionError(
        f"The role {role} cannot be kept out: {why}.",
        where="the target's key database.application_role",
        state="Nothing was changed: it can connect as before.",
        safe_next="Give our role CREATEROLE with ADMIN OPTION on it, or membership in the database's owner. Or "
        "waive the fence with a reason, once nothing that uses the role runs.",
    )
