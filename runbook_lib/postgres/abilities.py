"""Reports what our role may not do, for example on a managed server, and what the runbook does instead."""

from dataclasses import dataclass

from runbook_lib.postgres import Connection
from runbook_lib.postgres.connection import one


@dataclass(frozen=True)
class Lost:
    """Something our role may not do on this server: why, and what the runbook does instead."""

    what: str
    why: str
    instead: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; {self.instead}"


# Column of _HELD -> what is lost where it is false.
ABILITIES = {
    "superuser": Lost(
        "change objects of roles that ours is not a member of",
        "our role is not a superuser",
        "such tables, owners, settings and extensions are listed beforehand, and block what would need them",
    ),
    "alters": Lost(
        "keep the application out by NOLOGIN",
        "our role may not alter the application's (CREATEROLE, since PostgreSQL 16 with ADMIN OPTION on it)",
        "as the database's owner, the runbook revokes its right to connect",
    ),
    "ends_superusers": Lost(
        "end sessions of superusers",
        "only superusers may",
        "a swap of databases does not wait for them: it is refused while one is connected",
    ),
    "sees_disk": Lost(
        "see the server's disk",
        "its data are on another machine, or hidden from our role (pg_read_all_settings)",
        "room for restored databases is UNKNOWN: look at the provider's console, then waive `server-disk`",
    ),
    "event_triggers": Lost(
        "make event triggers",
        "only superusers may",
        "copies that are only read are made without them",
    ),
    "replica": Lost(
        "switch triggers off (session_replication_role)",
        "the setting is a superuser's",
        "no step needs it; in a migration's rehearsal only `data-only` does: rehearse that on the embedded server",
    ),
    "ends_sessions": Lost(
        "end sessions of roles that ours is not a member of",
        "our role is not a member of pg_signal_backend",
        "the fence and a swap of databases are refused where they need it",
    ),
}


def lost(connection: Connection, application: str) -> list[Lost]:
    """List what our role may not do on this server. Read-only."""
    row = one(connection, _HELD, {"application": application})
    return [ability for name, ability in ABILITIES.items() if not row[name]]


CONNECTIONS = 8  # most that a rollback has open at once


def kept_out(connection: Connection) -> list[str]:
    """List why our role cannot change anything here: the server is read-only, or allows too few connections. Read-only."""
    return [row["why"] for row in connection.execute(_KEPT_OUT, {"needed": CONNECTIONS})]


_KEPT_OUT = """
SELECT 'it is a standby, which accepts no changes: name the primary in the service file' AS why WHERE pg_is_in_recovery()
UNION ALL SELECT 'transactions are read-only here (default_transaction_read_only): set it to off for our role'
WHERE current_setting('default_transaction_read_only') = 'on' AND NOT pg_is_in_recovery()
UNION ALL SELECT format('%%s may have %%s connections, and a rollback needs %%s: raise its CONNECTION LIMIT', name, most,
    %(needed)s)
FROM (SELECT 'our role' AS name, rolconnlimit AS most, rolsuper AS super FROM pg_roles WHERE rolname = current_user
      UNION ALL SELECT 'the database', datconnlimit, current_setting('is_superuser')::boolean
      FROM pg_database WHERE datname = current_database()) l WHERE most BETWEEN 0 AND %(needed)s - 1 AND NOT super
"""
_HELD = """
SELECT us.rolsuper AS superuser, us.rolsuper AS ends_superusers, us.rolsuper AS event_triggers,
       us.rolsuper OR us.rolcreaterole AND (current_setting('server_version_num')::int < 160000
           OR coalesce(pg_has_role(us.oid, to_regrole(quote_ident(%(application)s))::oid, 'MEMBER WITH ADMIN OPTION'),
                       false)) AS alters,
       inet_server_addr() IS NULL AND pg_has_role('pg_read_all_settings', 'USAGE') AS sees_disk,
       has_parameter_privilege('session_replication_role', 'SET') AS replica,
       pg_has_role('pg_signal_backend', 'USAGE') AS ends_sessions
FROM pg_roles us WHERE us.rolname = current_user
"""
