"""Who may connect to a database, by its grants."""

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection

Grant = tuple[str, bool]  # who may connect, "" for everybody, and whether they may grant it on


def to_connect(connection: Connection) -> list[Grant]:
    """Who may connect to this database, as its owner granted it. Read-only."""
    rows = connection.execute(
        """SELECT CASE WHEN grantee = 0 THEN '' ELSE pg_get_userbyid(grantee)::text END AS grantee, is_grantable AS onward
           FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
           WHERE datname = current_database() AND privilege_type = 'CONNECT' AND grantor = datdba ORDER BY 1"""
    )
    return [(row["grantee"], row["onward"]) for row in rows]


def paths(connection: Connection, role: str) -> list[str]:
    """Through which grants a role may connect: its own, everybody's, and those of roles it belongs to. Read-only."""
    names = [grantee for grantee, _ in to_connect(connection)]
    query = "SELECT n FROM unnest(%s::text[]) n WHERE CASE n WHEN '' THEN true ELSE pg_has_role(%s, n::name, 'USAGE') END"
    return [row["n"] for row in connection.execute(query, [names, role])]


def lost_with(connection: Connection, role: str) -> list[str]:
    """Other roles that could not connect either, were `role` to lose every grant by which it may. Read-only."""
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


def revoke(connection: Connection, grantees: list[str]) -> None:
    """Take the right to connect to this database from each of `grantees`. Changes the target."""
    for grantee in grantees:
        query = sql.SQL("REVOKE CONNECT ON DATABASE {} FROM {}").format(_database(connection), _named(grantee))
        connection.execute(query)


def grant(connection: Connection, given: list[Grant]) -> None:
    """Give the right to connect to this database. Changes the target."""
    for grantee, onward in given:
        option = sql.SQL("WITH GRANT OPTION" if onward else "")
        query = sql.SQL("GRANT CONNECT ON DATABASE {} TO {} {}").format(_database(connection), _named(grantee), option)
        connection.execute(query)


def _database(connection: Connection) -> sql.Identifier:
    return sql.Identifier(connection.info.dbname)


def _named(grantee: str) -> sql.Composable:
    return sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC")
