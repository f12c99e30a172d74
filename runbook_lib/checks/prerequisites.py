"""The prerequisites of the downtime, each with its look."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runbook_lib import checks
from runbook_lib.checks import rehearsed
from runbook_lib.checks.pooler import POOLER, can_be_paused
from runbook_lib.checks.restorable import RESTORABLE, restores
from runbook_lib.checks.schema import will_agree
from runbook_lib.config.installed import packaged
from runbook_lib.config.plan import Part, RepositoryStep, Rows, ServicesStep
from runbook_lib.context import Context, old_code
from runbook_lib.context.before import newest_before
from runbook_lib.context.migration_files import history
from runbook_lib.errors import AdapterError, ParametersError, PreconditionError
from runbook_lib.postgres import plan_fit, sampled_rows
from runbook_lib.postgres.abilities import kept_out, lost
from runbook_lib.postgres.catalog import database_size, has_column, old_collations
from runbook_lib.postgres.connection import identity, rights_missing
from runbook_lib.postgres.lease import LEFT_BEHIND
from runbook_lib.postgres.text_settings import identifier
from runbook_lib.results import LOOK_FAILED, Found, Precondition, Result, Status, When, why

NOTEBOOKS = packaged("headless", "notebooks")
MARK = "runbook"  # the key in the metadata of a notebook that is rendered from a plan
WALKED = re.compile(r"""\bapply\(run, (["'])([\w.-]+)\1\)""")
WALKS_ALL = re.compile(r"\bfix\(run\)")
DISK_FACTOR = 1.2  # a dump may be as large as the database; a fifth is kept free
REINDEX = "so an index on {} may miss rows: reindex the database, then have it REFRESH COLLATION VERSION"
FUTURE = 0.25  # hours by which a backup from another machine may be newer than the clock here


@dataclass(frozen=True)
class Prerequisite:
    """A prerequisite: its title, its look, and the runs that it concerns."""

    title: str
    look: Callable[[Context], Found]
    concerns: Callable[[Context], object] = lambda context: True
    waivable: bool = True


def prerequisites(context: Context) -> list[Result]:
    """Look at each prerequisite that concerns the run. Read-only."""
    return [looked(context, name) for name, each in PREREQUISITES.items() if each.concerns(context)]


def looked(context: Context, name: str) -> Result:
    """Look at one prerequisite; UNKNOWN if the look fails. Read-only."""
    need = prerequisite(context, name)
    return need.result(_at_once(need.look))


def prerequisite(context: Context, name: str) -> Precondition:
    """Return a prerequisite as a precondition of a step."""
    found = PREREQUISITES[name]
    return Precondition(name, found.title, When.BEFOREHAND, partial(found.look, context), waivable=found.waivable)


def _checkouts(context: Context) -> Found:
    repositories = sorted({spec.repository for spec in context.specs.values() if isinstance(spec, RepositoryStep)})
    found = []
    for repository in repositories:
        checkout = context.checkout(repository)
        state = old_code.require_ready(context, repository)
        if not _writable(checkout.path):
            return Status.FAIL, f"{checkout.path} cannot be written to"
        found.append(" ".join(filter(None, [repository, "at", checkout.head()[:12], state])))
    return Status.PASS, ", ".join(found)


def _notebook(context: Context) -> Found:
    notebook = context.plan.types[context.type].notebook
    file = NOTEBOOKS / f"{notebook}.ipynb"
    content = json.loads(file.read_text(encoding="utf-8")) if notebook and file.exists() else {"metadata": {MARK: {}}}
    if MARK in content["metadata"]:
        return Status.PASS, "it is rendered from the plan"
    code = "\n".join("".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code")
    walked = {name for _, name in WALKED.findall(code)}
    absent = [] if WALKS_ALL.search(code) else [name for name in context.specs if name not in walked]
    if absent:
        return Status.FAIL, f"{notebook} lacks {', '.join(absent)}; remove `notebook` from the plan's type"
    return Status.PASS, f"{notebook} does"


def _services(context: Context) -> Found:
    names = sorted(
        {service for spec in context.specs.values() if isinstance(spec, ServicesStep) for service in spec.services}
    )
    running = context.adapters.services.running_of(names)
    return Status.PASS, ", ".join(f"{name} {'runs' if name in running else 'is stopped'}" for name in names)


def _database(context: Context) -> Found:
    with context.adapters.postgres.connect() as connection:
        here, problems = identity(connection), kept_out(connection)
    facts = f"{here.database} on server {here.system}, version {here.server_version // 10000}, as {here.role}"
    if here.role == context.target.database.application_role:
        return Status.FAIL, f"{facts}, which is the application's role: it could not be distinguished or kept out"
    if problems:
        return Status.FAIL, f"{facts}: {'; '.join(problems)}"
    return Status.PASS, facts


def _alone(context: Context) -> Found:
    host = context.host_lease
    if found := host.in_the_way():
        return Status.FAIL, found + _taken_over(context, found)
    try:
        found = context.adapters.lease.in_the_way()
    except AdapterError as error:
        if context.touches_database or not host.directories:
            raise
        return Status.PASS, f"no other run has it on this host; a run from another machine cannot be seen: {error.what}"
    if found:
        return Status.FAIL, found + _taken_over(context, found)
    return Status.PASS, "no other run has it, and no pooler is in between"


def _taken_over(context: Context, found: str) -> str:
    """Return what to do about a run that has the target but does not act now. Pure."""
    if not found.startswith(LEFT_BEHIND):
        return ""
    return f". Ask its operator; if it is abandoned: runbook run {context.folder.path} --take-over 'REASON'"


def _fits(context: Context) -> Found:
    database, rows = context.plan.database, history(context)
    with context.adapters.postgres.connect() as connection:
        lines = plan_fit.history_misfits(connection, rows) if rows else []
        if _changes_table(context):
            lines += (
                [absent] if (absent := plan_fit.no_table(connection, database)) else plan_fit.misfits(connection, database)
            )
        if not lines and _changes_table(context) and plan_fit.is_text(connection, database, database.key):
            lines += [f"{line}; {REINDEX.format(database.key)}" for line in old_collations(connection)]
    return (Status.FAIL, "; ".join(lines)) if lines else (Status.PASS, "it has")


def _key(context: Context) -> Found:
    database = context.plan.database
    with context.adapters.postgres.connect() as connection:
        if not has_column(connection, database, database.key):
            status = Status.FAIL if _changes_table(context) else Status.PASS  # otherwise it is restored with the table
            return status, f"there is no column {database.key} in {database.schema_}.{database.table}"
        found = plan_fit.no_key(connection, database)
    return (Status.FAIL, found) if found else (Status.PASS, f"{database.key} does")


def _changes_table(context: Context) -> bool:
    """Check whether a step of the run changes the plan's table in place, rather than restore it."""
    return any(spec.about.on_table for spec in context.specs.values())


def _asked_for(context: Context) -> dict[str, tuple[Rows | None, list[str]]]:
    """Return what the checks of API and page query of the table: key -> condition and columns. Pure."""
    if not context.plan.parts.issuperset(("api", "database")):
        return {}
    api, page = context.plan.api_, context.plan.page_
    found = {f"{name}.rows": (part.rows, list[str]()) for name, part in (("api", api), ("page", page)) if part}
    columns = [each.column for each in page.texts if each.column is not None] if page else []
    asked = {key: (rows, none) for key, (rows, none) in found.items() if isinstance(rows, Rows)}
    return asked | ({"page.texts": (None, columns)} if columns else {})


def _rows(context: Context) -> Found:
    table, spec = identifier(context.plan.database), context.plan.api.sample
    lines = []
    with context.adapters.postgres.connect() as connection:
        for key, (rows, columns) in _asked_for(context).items():
            try:
                why = sampled_rows.refused(connection, table, spec, rows, columns)
            except ParametersError as error:
                why = error.what
            lines += [f"{key}: {why}"] if why else []
    return (Status.FAIL, "; ".join(lines)) if lines else (Status.PASS, f"{', '.join(_asked_for(context))} can be queried")


def _server(context: Context) -> Found:
    with context.adapters.postgres.connect() as connection:
        found = lost(connection, context.target.database.application_role)
    listed = "\n".join(f"- {each}" for each in found)
    return Status.PASS, f"it lacks these rights, and uses other ways:\n{listed}" if found else "it has every optional right"


def _rights(context: Context) -> Found:
    database = context.plan.database
    with context.adapters.postgres.connect() as connection:
        if absent := plan_fit.no_table(connection, database):
            return Status.FAIL if _changes_table(context) else Status.PASS, absent
        missing = rights_missing(connection, database.schema_, database.table)
    return (Status.FAIL, f"it may not {', '.join(missing)}") if missing else (Status.PASS, "it may")


def _backup(context: Context) -> Found:
    backups = context.target.backups
    if not Path(backups.directory).is_dir():
        return Status.FAIL, f"there is no folder {backups.directory}; create it, or correct backups.directory in the target"
    try:
        found = newest_before(context)
    except PreconditionError as error:
        return Status.FAIL, f"{error.what} {error.safe_next}"
    path = found.path
    if path is None:
        return Status.FAIL, f"no {backups.pattern} in {backups.directory}"
    contents = context.adapters.dump_tools.contents(path)
    hours = (context.now() - contents.made).total_seconds() / 3600
    facts = f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, {hours:.1f} h old, {len(contents.tables_with_data)} tables"
    facts += f", {found.how}" if found.how else ""
    if lacking := [name for table in context.plan.tables for name in contents.lacks(*table)]:
        return Status.FAIL, f"{facts}, without the data of {', '.join(lacking)}"
    if hours < -FUTURE:
        return Status.UNKNOWN, f"{facts}; according to this machine's clock, it is from the future"
    if hours > backups.oldest_hours:
        return Status.FAIL, f"{facts}; older than {backups.oldest_hours} h"
    return Status.PASS, facts


def _tools(context: Context) -> Found:
    with context.adapters.postgres.connect() as connection:
        server = identity(connection).server_version // 10000
    found = {tool: context.adapters.dump_tools.version(tool) for tool in ("pg_dump", "pg_restore")}
    same = all(version == server for version in found.values())
    listed = ", ".join(f"{tool} {version}" for tool, version in found.items())
    return (Status.PASS if same else Status.FAIL), f"{listed}, server {server}"


def _disk(context: Context) -> Found:
    if context.target.backups.snapshot or context.target.backups.fresh:
        return Status.PASS, "no dump is made: the target names a backup from before the stop"
    with context.adapters.postgres.connect() as connection:
        size = database_size(connection)
    directory = Path(context.target.backups.directory)
    if not _writable(directory):
        return Status.FAIL, f"{directory} does not exist or cannot be written to"
    free = shutil.disk_usage(directory).free
    enough = free > size * DISK_FACTOR
    return (Status.PASS if enough else Status.FAIL), f"{free / 1e9:.1f} GB free for a database of {size / 1e9:.3f} GB"


def _looking(context: Context) -> dict[str, Callable[[Context, str], Found]]:
    """Return the checks of the type's list that can report beforehand whether they will be able to run."""
    plan = context.plan
    of_type = plan.types[context.type].checks if context.type else []
    found = {name: checks.kind(plan.checks[name].kind).beforehand for name in of_type}
    return {name: look for name, look in found.items() if look}


def _checks(context: Context) -> Found:
    found = {name: _at_once(partial(look, context, name)) for name, look in _looking(context).items()}
    statuses = {status for status, _ in found.values()}
    worst = Status.FAIL if Status.FAIL in statuses else Status.UNKNOWN if Status.UNKNOWN in statuses else Status.PASS
    said = [f"{name}: {text}" for name, (status, text) in found.items() if status is worst]
    return worst, "; ".join(said)


def _at_once(look: Callable[[], Found]) -> Found:
    try:
        return look()
    except LOOK_FAILED as error:
        return why(error)


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK)


def _of_database(*parts: Part) -> Callable[[Context], bool]:
    """Return a test whether a run touches the database, with a plan that has some parts. Pure."""
    return lambda context: context.touches_database and context.plan.parts.issuperset(parts)


def _restoring(context: Context) -> bool:
    return bool(restores(context)) and "database" in context.plan.parts


PREREQUISITES = {
    "checkouts": Prerequisite("The checkouts are clean and writable", _checkouts),
    # If a notebook lacks steps, services stay stopped.
    "notebook": Prerequisite("The type's notebook has each of its steps", _notebook, waivable=False),
    "services": Prerequisite("The service manager answers", _services),
    "database": Prerequisite("The database answers, and our role is not the application's", _database, _of_database()),
    "alone": Prerequisite("No other run has the target", _alone),
    POOLER: Prerequisite(
        "Each pooler can be paused, and leads to the database",
        can_be_paused,
        lambda context: context.touches_database and context.target.pooler,
    ),
    "plan-fits": Prerequisite("The database has what the plan names", _fits, _of_database("database")),
    "rows": Prerequisite("The rows that pages and the API show can be queried", _rows, _asked_for),
    # With a key of several rows, an undo would write one row's values into another.
    "key": Prerequisite("The plan's key identifies exactly one row", _key, _of_database("database"), waivable=False),
    "history": Prerequisite(
        "The migration's file and its row in the history will agree", will_agree, _of_database("migration")
    ),
    "rights": Prerequisite("Our role may do what the rollback does", _rights, _of_database("database")),
    "server-role": Prerequisite("The missing rights of our role on this server are known", _server, _of_database()),
    "backup": Prerequisite("A backup from before is present, readable and recent", _backup, _of_database()),
    "tools": Prerequisite("pg_dump and pg_restore are of the server's version", _tools, _of_database()),
    "disk": Prerequisite("The disk has room for a backup", _disk, _of_database()),
    rehearsed.REHEARSED: Prerequisite(rehearsed.TITLE, rehearsed.look, rehearsed.concerns),
    "checks": Prerequisite("The plan's own checks will be able to run", _checks, _looking),
    **{name: Prerequisite(title, look, _restoring) for name, (title, look) in RESTORABLE.items()},
}
