"""What must hold before a database can be restored aside and put in the live one's place, each looked at."""

import shutil
from collections.abc import Callable
from pathlib import Path

from runbook_lib.adapters.postgres.connection import MAINTENANCE, Connection, identity, one
from runbook_lib.adapters.postgres.restore.side import counts, tables
from runbook_lib.context import Context
from runbook_lib.plan import RestoreAsideStep
from runbook_lib.results import Status

ROOM = 1.2  # the restored database may be as large as the live one; a fifth is kept free
Found = tuple[Status, str]


def restores(context: Context) -> RestoreAsideStep | None:
    """The step that restores a backup, where the run's type and option have one."""
    return next((spec for spec in context.specs.values() if isinstance(spec, RestoreAsideStep)), None)


def missing_tables(context: Context, connection: Connection) -> dict[str, int]:
    """The live tables that hold rows and are not in the backup, with their rows. Read-only."""
    there = context.dump.contents.tables_with_data
    absent = [name for name in tables(connection) if ".".join(name) not in there]
    return {name: rows for name, rows in counts(connection, absent).items() if rows}


def _dump(context: Context) -> Found:
    dump, database = context.dump, context.plan.database
    with context.postgres.connect() as connection:
        here = identity(connection)
        missing = missing_tables(context, connection)
        extensions = [row["name"] for row in connection.execute(_OUT_OF_REACH, [dump.extensions])]
    of_feature = dump.columns_of_feature(database)
    kept = dump.columns.get(f"{database.schema_}.{database.table}", {})
    spec = restores(context)
    lost = context.choices.get("MISSING_TABLES", spec.missing_tables if spec else "refuse") == "lose"
    problems = [
        *(f"it lacks the column {name}" for name in [database.key, *database.kept_columns] if name not in kept),
        *(f"it lacks the table {name}, which holds {rows} rows now" for name, rows in missing.items() if not lost),
        *(f"the extension {name} is not here, or our role may not create it" for name in extensions),
        *(f"it makes the subscription {name}" for name in dump.subscriptions),
    ]
    if 0 < len(of_feature) < len(database.columns):
        problems.append(f"of the feature's columns it holds {', '.join(of_feature)} alone")
    server = here.server_version // 10000
    if dump.contents.server and dump.contents.server > server:
        problems.append(f"it is from PostgreSQL {dump.contents.server}, newer than this server's {server}")
    columns = "with the feature's columns" if of_feature else "without the feature's columns"
    facts = f"{dump.path.name}, made {dump.made:%Y-%m-%d %H:%M} UTC from database {dump.contents.database}, {columns}"
    return (Status.FAIL, f"{facts}: {'; '.join(problems)}") if problems else (Status.PASS, facts)


def _rights(context: Context) -> Found:
    with context.postgres.connect() as connection:
        may = one(connection, _RIGHTS, [MAINTENANCE])
        owners = [row["name"] for row in connection.execute(_STRANGE_OWNERS, [context.dump.owners])]
        tables = [row["name"] for row in connection.execute(_OTHERS_TABLES)]
        settings = [row["name"] for row in connection.execute(_OUT_OF_HAND)]
    problems = [
        *(f"it may not {right}" for right, held in may.items() if not held),
        *(f"the backup names the owner {name}, whom our role is no member of" for name in owners),
        *(f"our role is no member of the owner of {name}" for name in tables),
        *(f"the database's setting {name} is not ours to make" for name in settings),
    ]
    return (Status.FAIL, "; ".join(problems)) if problems else (Status.PASS, "it may")


def _disk(context: Context) -> Found:
    with context.postgres.connect() as connection:
        row = one(connection, _DISK)
    needed = row["bytes"] * ROOM
    directory = Path(row["directory"] or "-")
    if not row["local"] or not directory.is_dir():
        return Status.UNKNOWN, f"the server's disk cannot be seen from here; the restored database may take {_gb(needed)}"
    free = shutil.disk_usage(directory).free
    return (Status.PASS if free > needed else Status.FAIL), f"{_gb(free)} free on the server, {_gb(needed)} needed"


def _ties(context: Context) -> Found:
    with context.postgres.connect() as connection:
        found = [row["it"] for row in connection.execute(_TIES)]
    if found:
        return Status.FAIL, f"these stay with the old database when it is renamed: {'; '.join(found)}"
    return Status.PASS, "no replication slot, subscription or prepared transaction hangs on it"


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


RESTORABLE: dict[str, tuple[str, Callable[[Context], Found]]] = {  # name -> title, look
    "restorable-backup": ("The backup holds what the live database holds, and can be restored here", _dump),
    "restore-rights": ("Our role may restore a database and rename both", _rights),
    "server-disk": ("There is room on the server for a second database", _disk),
    "ties": ("Nothing is tied to the live database that renaming would leave behind", _ties),
}

_OUT_OF_REACH = """
SELECT name FROM unnest(%s::text[]) name WHERE NOT EXISTS (
    SELECT FROM pg_available_extension_versions v
    WHERE v.name = name.name AND (trusted OR NOT superuser OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)))
"""

_RIGHTS = """
SELECT rolcreatedb OR rolsuper AS "make and rename databases (CREATEDB)",
       pg_has_role(datdba, 'USAGE') AS "act for the database's owner",
       has_database_privilege(%s, 'CONNECT') AS "connect to the maintenance database",
       pg_has_role('pg_signal_backend', 'USAGE') AS "end sessions (pg_signal_backend)"
FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()
"""

_STRANGE_OWNERS = """
SELECT name FROM unnest(%s::text[]) name
WHERE coalesce(NOT pg_has_role(to_regrole(quote_ident(name))::oid, 'MEMBER'), TRUE)
"""

_OTHERS_TABLES = """
SELECT oid::regclass::text AS name FROM pg_class c
WHERE relkind IN ('r', 'p') AND relpersistence <> 't' AND relnamespace::regnamespace::text NOT LIKE 'pg\\_%'
  AND relnamespace <> 'information_schema'::regnamespace AND NOT pg_has_role(relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
"""

_OUT_OF_HAND = """
SELECT DISTINCT name FROM pg_settings, pg_db_role_setting, unnest(setconfig) entry
WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) AND name = split_part(entry, '=', 1)
  AND (context LIKE 'superuser%' AND NOT has_parameter_privilege(name, 'SET')
       OR setrole <> 0 AND NOT pg_has_role(setrole, 'MEMBER'))
"""

_DISK = """
SELECT pg_database_size(d.oid) AS bytes, inet_server_addr() IS NULL AS local,
       coalesce(nullif(pg_tablespace_location(dattablespace), ''),
                CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END
       ) AS directory
FROM pg_database d WHERE datname = current_database()
"""

_TIES = """
SELECT 'replication slot ' || slot_name AS it FROM pg_replication_slots WHERE database = current_database()
UNION ALL SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts WHERE database = current_database()
UNION ALL SELECT 'subscription ' || subname FROM pg_subscription
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
