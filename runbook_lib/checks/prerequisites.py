"""What must hold before any downtime, each looked at."""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from runbook_lib.adapters.postgres.connection import identity, one, rights_missing
from runbook_lib.adapters.postgres.restore.look import newest
from runbook_lib.checks.restorable import RESTORABLE, Found, restores
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.plan import RepositoryStep, ServicesStep
from runbook_lib.results import Result, Status

DISK_FACTOR = 1.2  # a dump may be as large as the database; a fifth is kept free


def prerequisites(context: Context, touches_database: bool) -> list[Result]:
    """Make each check that the run's rollback type needs. Read-only."""
    names = [name for name, (_, of_database, _) in PREREQUISITES.items() if touches_database or not of_database]
    return [looked(context, name) for name in names if name not in RESTORABLE or restores(context)]


def looked(context: Context, name: str) -> Result:
    """Make one of the checks; what cannot be looked at is UNKNOWN. Read-only."""
    title, _, look = PREREQUISITES[name]
    try:
        return Result(name, title, *look(context))
    except PreconditionError as error:
        return Result(name, title, Status.FAIL, f"{error.what} {error.safe_next}".strip())
    except AdapterError as error:
        return Result(name, title, Status.UNKNOWN, f"could not be looked at: {error.what}")


def _checkouts(context: Context) -> Found:
    repositories = sorted({spec.repository for spec in context.specs.values() if isinstance(spec, RepositoryStep)})
    found = []
    for repository in repositories:
        checkout = context.checkout(repository)
        checkout.require_ready()
        if not _writable(checkout.path):
            return Status.FAIL, f"{checkout.path} cannot be written to"
        found.append(f"{repository} at {checkout.head()[:12]}")
    return Status.PASS, ", ".join(found)


def _services(context: Context) -> Found:
    names = sorted(
        {service for spec in context.specs.values() if isinstance(spec, ServicesStep) for service in spec.services}
    )
    return Status.PASS, ", ".join(f"{n} {'runs' if context.services.is_running(n) else 'is stopped'}" for n in names)


def _database(context: Context) -> Found:
    with context.postgres.connect() as connection:
        here = identity(connection)
    facts = f"{here.database} on server {here.system}, version {here.server_version // 10000}, as {here.role}"
    if here.role == context.target.database.application_role:
        return Status.FAIL, f"{facts}, which is the application's own role: it could not be told apart or kept out"
    return Status.PASS, facts


def _alone(context: Context) -> Found:
    found = context.lease.in_the_way()
    return (Status.FAIL, found) if found else (Status.PASS, "nobody else has it, and no pooler stands in between")


def _rights(context: Context) -> Found:
    database = context.plan.database
    with context.postgres.connect() as connection:
        missing = rights_missing(connection, database.schema_, database.table)
    return (Status.FAIL, f"it may not {', '.join(missing)}") if missing else (Status.PASS, "it may")


def _backup(context: Context) -> Found:
    backups = context.target.backups
    path = newest(Path(backups.directory), backups.pattern)
    if path is None:
        return Status.FAIL, f"no {backups.pattern} in {backups.directory}"
    contents = context.dump_tools.contents(path)
    hours = (datetime.now(UTC) - contents.made).total_seconds() / 3600
    facts = f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, {hours:.1f} h old, {len(contents.tables_with_data)} tables"
    table = f"{context.plan.database.schema_}.{context.plan.database.table}"
    if table not in contents.tables_with_data:
        return Status.FAIL, f"{facts}, without the data of {table}"
    if hours > backups.oldest_hours:
        return Status.FAIL, f"{facts}; older than {backups.oldest_hours} h"
    return Status.PASS, facts


def _tools(context: Context) -> Found:
    with context.postgres.connect() as connection:
        server = identity(connection).server_version // 10000
    found = {tool: context.dump_tools.version(tool) for tool in ("pg_dump", "pg_restore")}
    same = all(version == server for version in found.values())
    listed = ", ".join(f"{tool} {version}" for tool, version in found.items())
    return (Status.PASS if same else Status.FAIL), f"{listed}, server {server}"


def _disk(context: Context) -> Found:
    with context.postgres.connect() as connection:
        size = one(connection, "SELECT pg_database_size(current_database()) AS bytes")["bytes"]
    directory = Path(context.target.backups.directory)
    if not _writable(directory):
        return Status.FAIL, f"{directory} is not there or cannot be written to"
    free = shutil.disk_usage(directory).free
    enough = free > size * DISK_FACTOR
    return (Status.PASS if enough else Status.FAIL), f"{free / 1e9:.1f} GB free for a database of {size / 1e9:.3f} GB"


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK)


PREREQUISITES: dict[str, tuple[str, bool, Callable[[Context], Found]]] = {  # name -> title, only for the database, look
    "checkouts": ("The checkouts are clean and writable", False, _checkouts),
    "services": ("The service manager answers", False, _services),
    "database": ("The database answers, and our role is not the application's", True, _database),
    "alone": ("No other run has the target", True, _alone),
    "rights": ("Our role may do what the rollback does", True, _rights),
    "backup": ("A backup from before is present, readable and recent", True, _backup),
    "tools": ("pg_dump and pg_restore are of the server's version", True, _tools),
    "disk": ("There is room for a backup", True, _disk),
    **{name: (title, True, look) for name, (title, look) in RESTORABLE.items()},
}
