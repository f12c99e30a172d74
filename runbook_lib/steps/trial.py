"""Tries a step's DDL on a schema-only clone, there and back, before anybody approves it. Nothing of the target changes."""

from collections.abc import Callable
from time import monotonic

import psycopg

from runbook_lib.adapters.postgres.catalog import catalog, differences
from runbook_lib.adapters.postgres.clone import Clone, cloned
from runbook_lib.adapters.postgres.connection import Postgres, one
from runbook_lib.adapters.postgres.dump import DumpTools
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError, RunbookError
from runbook_lib.results import Result, Status

NAME = "ddl-on-clone"  # by which it is waived
WITHOUT = f"to go on without, waive {NAME} with a reason"


def tried(context: Context, what: str, work: Callable[[Clone], object]) -> Result:
    """Make a clone, do `work` on it, which takes back what it did, and see that all is as before. Changes the server only.

    PASS where it is; FAIL where something went wrong in the clone, as it would in the target; UNKNOWN where there was none.
    """
    target, begun = context.target.database, monotonic()
    there = Postgres(target.clone_service or target.service, context.run)
    tools = DumpTools(context.processes, target.tools, there.service)
    status, said = Status.UNKNOWN, "nothing was tried"
    try:
        with cloned(context.postgres, there, context.dump_tools, tools, context.scratch) as clone:
            status, said = _outcome(clone, work)
            if not clone.with_owners and status is Status.PASS and (foreign := _not_ours(context)):
                status, said = Status.FAIL, foreign
    except AdapterError as error:
        status, said = Status.UNKNOWN, f"{said}; no clone, or it is left: {error.what}"
    seconds = round(monotonic() - begun, 2)
    way_on = "" if status is Status.PASS else f"; {WITHOUT}"
    title = "The DDL runs on a schema-only clone, there and back"
    return Result(NAME, title, status, f"{what}: {said}{way_on}", {"seconds": seconds})


def _outcome(clone: Clone, work: Callable[[Clone], object]) -> tuple[Status, str]:
    with clone.connect() as connection:
        before = catalog(connection)
    try:
        work(clone)
    except RunbookError as error:
        lost = isinstance(error.__cause__, psycopg.OperationalError)
        return (Status.UNKNOWN if lost else Status.FAIL), error.what
    with clone.connect() as connection:
        changed = differences(before, catalog(connection))
    if changed:
        return Status.FAIL, f"taken back, it leaves the schema changed: {'; '.join(changed)}"
    owners = "" if clone.with_owners else ", whose objects are all ours"
    return Status.PASS, f"done and taken back on a clone{owners}, which is as before"


def _not_ours(context: Context) -> str:
    """Why our role may not change the shape of the table, "" where it may. Read-only."""
    database = context.plan.database
    with context.postgres.connect() as connection:
        row = one(
            connection,
            """SELECT pg_has_role(relowner, 'USAGE') AS ours, relowner::regrole::text AS owner FROM pg_class
               WHERE oid = to_regclass(quote_ident(%s) || '.' || quote_ident(%s))""",
            [database.schema_, database.table],
        )
    return "" if row["ours"] else f"the table belongs to {row['owner']}, for whom our role may not act"
