"""What our role may not do on the server, as on one that somebody else manages, and what is done instead."""

from dataclasses import dataclass

from runbook_lib.postgres import Connection
from runbook_lib.postgres.connection import one


@dataclass(frozen=True)
class Lost:
    """Something that our role may not do there: why, and what is used instead."""

    what: str
    why: str
    instead: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; {self.instead}"


# What a row of _HELD says -> what is lost where it does not hold.
ABILITIES = {
    "superuser": Lost(
        "change what belongs to roles that ours does not belong to",
        "our role is no superuser",
        "such tables, owners, settings and extensions are named beforehand, and stop what would need them",
    ),
    "alters": Lost(
        "keep the application out by NOLOGIN",
        "our role may not alter the application's (CREATEROLE, since PostgreSQL 16 with ADMIN OPTION on it)",
        "its right to connect to the database is revoked, as the database's owner",
    ),
    "ends_superusers": Lost(
        "end sessions of superusers",
        "only superusers may",
        "an exchange of databases waits for none of them: it is refused while one is connected",
    ),
    "sees_disk": Lost(
        "see the server's disk",
        "its data are on another machine, or not shown to our role (pg_read_all_settings)",
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
        "no step needs it; of the rehearsal of a migration alone, `data-only` does: rehearse that on the embedded server",
    ),
    "ends_sessions": Lost(
        "end sessions of roles that ours does not belong to",
        "our role is no member of pg_signal_backend",
        "the fence and an exchange are refused where it would be needed",
    ),
}


def lost(connection: Connection, application: str) -> list[Lost]:
    """What our role may not do on this server. Read-only."""
    row = one(connection, _HELD, {"application": application})
    return [ability for name, ability in ABILITIES.items() if not row[name]]


CONNECTIONS = 8  # that a rollback has open at once, at most


def kept_out(connection: Connection) -> list[str]:
    """Why our role cannot change anything here, a line each: the server is read-only, or lets in too few. Read-only."""
    return [row["why"] for row in connection.execute(_KEPT_OUT, {"needed": CONNECTIONS})]


_KEPT_OUT = """
SELECT 'it is a standby, which takes no changes: name the primary in the service file' AS why WHERE pg_is_in_recovery()
UNION ALL SELECT 'transactions are read-only here (default_transaction_read_only): have it set off for our role'
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
