"""Tries a step's DDL on a schema-only clone, and the application's statements there before and after it."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from time import monotonic

import psycopg
from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError, RunbookError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import catalog, differences
from runbook_lib.postgres.clone import Clone, cloned
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.postgres.exercise import trial
from runbook_lib.postgres.exercise.sample import copy_into, sample
from runbook_lib.postgres.exercise.trial import Compared, not_exercised
from runbook_lib.postgres.fence import owner_not_ours
from runbook_lib.postgres.restore.shape import Name
from runbook_lib.results import Result, Status

NAME, EXERCISE = "ddl-on-clone", "exercise"  # their names in a waiver
WITHOUT = "to continue without it, waive {} with a reason"
TITLE = "The application's statements run on a clone as before"

Look = Callable[[str], None]  # called after each change of the clone, with the change's name
Work = Callable[[Clone, Look], str]  # returns a note, or ""
Connect = Callable[[], AbstractContextManager[Connection]]


def dry_run_of_ddl(
    context: Context, database: Database, what: str, work: Work, rows: sql.Composable | None = None
) -> list[Result]:
    """Make a clone, let `work` change it and undo that, and check that the schema is as before. Changes the server only.

    PASS if it is; FAIL if something went wrong in the clone, as it would in the target; UNKNOWN if there was no clone.
    It executes the application's statements before, and after each change by `work`. `rows` is a condition on rows `t`
    of the plan's table that `work` needs.
    """
    target, begun = context.target.database, monotonic()
    name = None if target.clone_service else target.dbname
    there = Postgres(target.clone_service or target.service, context.folder.short, dbname=name)
    tools = DumpTools(context.adapters.processes, target.tools, there.service, dbname=name)
    status, said = Status.UNKNOWN, "nothing was tried"
    written = {*database.columns, *(each.name for each in context.plan.backfills)}
    written |= {each.touch_column for each in context.plan.backfills if each.touch_column}
    exercise = Exercised(context, {(database.schema_, database.table): rows} if rows else {}, written)
    try:
        with cloned(
            context.adapters.postgres,
            there,
            context.adapters.dump_tools,
            tools,
            context.adapters.scratch,
            fill=exercise.fill if exercise.statements or rows else None,
        ) as clone:
            exercise.begin(clone.connect, with_owners=clone.with_owners)
            status, said = _outcome(clone, lambda: work(clone, lambda change: exercise.again(clone.connect, change)))
            if not clone.with_owners and status is Status.PASS and (foreign := _not_ours(context, database)):
                status, said = Status.FAIL, foreign
    except AdapterError as error:
        status, said = Status.UNKNOWN, f"{said}; the clone was not made, or not dropped: {error.what}"
    seconds = round(monotonic() - begun, 2)
    way_on = f"; {WITHOUT.format(NAME)}" if status is Status.UNKNOWN else ""  # a FAIL would happen in the target too
    title = "The DDL runs on a schema-only clone, and so does its undo"
    note = f"; {exercise.note}" if exercise.note else ""
    tried = Result(NAME, title, status, f"{what}: {said}{note}{way_on}", {"seconds": seconds})
    return [tried, *exercise.results()]


class Exercised:
    """The results of the application's statements on scratch databases, before and after a change."""

    def __init__(
        self,
        context: Context,
        rows: Mapping[Name, sql.Composable] | None = None,
        meant: Collection[str] | None = None,
    ) -> None:
        self.context = context
        self.rows = rows or {}  # conditions on further rows to copy
        self.problem = ""
        self.compared: Compared | None = None
        role = context.target.database.application_role
        try:
            self.compared = Compared(trial.chosen(context.adapters.postgres, role, context.plan.exercise), meant)
        except AdapterError as error:
            self.problem = error.what

    @property
    def statements(self) -> bool:
        """Whether there are statements to execute."""
        return self.compared is not None and bool(self.compared.of.statements)

    def fill(self, clone: Connection) -> None:
        """Copy the rows that the statements need from the target into a clone. Changes the clone."""
        history = self.context.plan.history_tables  # the DDL inserts their rows itself
        statements, path = (self.compared.of.statements, self.compared.of.search_path) if self.compared else ([], "")
        with self.context.adapters.postgres.connect() as connection:
            rows = sample(connection, statements, path, history, self.rows)
        copy_into(clone, rows)

    def begin(self, connect: Connect, *, with_owners: bool) -> None:
        """Execute the statements before the change. Leaves no change."""
        self._with(connect, lambda compared, connection: compared.begin(connection, with_owners=with_owners))

    def again(self, connect: Connect, change: str) -> None:
        """Execute the statements after a change. Leaves no change."""
        self._with(connect, lambda compared, connection: compared.again(connection, change))

    @property
    def note(self) -> str:
        """Why no statement was executed; "" if some were, or if a result reports it."""
        if self.compared is None or self.problem or self.context.plan.exercise:
            return ""
        if self.statements and (self.compared.ran or not self.compared.after):
            return ""
        said = str(self.compared) if self.compared.after else not_exercised(self.compared.left_out)
        return f"no statement of the application was tried: {said or self.compared.of.source}"

    def results(self) -> list[Result]:
        """Return the results; none if there was no statement to try."""
        found = self.compared
        if self.note or (found is not None and not self.problem and self.statements and not found.after):
            return []  # no statement, or no change to run it before and after
        if found is None or self.problem or not found.ran:
            why = self.problem or (str(found) if found else "")
            return [Result(EXERCISE, TITLE, Status.UNKNOWN, f"{why}; {WITHOUT.format(EXERCISE)}")]
        status = Status.FAIL if found.fails else Status.PASS
        way_on = f"; {WITHOUT.format(EXERCISE)}" if found.fails else ""
        return [Result(EXERCISE, TITLE, status, f"{found}{way_on}", {"fails": found.fails})]

    def _with(self, connect: Connect, look: Callable[[Compared, Connection], None]) -> None:
        if self.compared is None or self.problem or not self.statements:
            return
        try:
            with connect() as connection:
                look(self.compared, connection)
        except AdapterError as error:
            self.problem = f"they could not be tried: {error.what}"


def _outcome(clone: Clone, work: Callable[[], str]) -> tuple[Status, str]:
    with clone.connect() as connection:
        before = catalog(connection)
    try:
        note = work()
    except RunbookError as error:
        lost = isinstance(error.__cause__, psycopg.OperationalError)
        return (Status.UNKNOWN if lost else Status.FAIL), error.what
    with clone.connect() as connection:
        changed = differences(before, catalog(connection))
    if changed:
        return Status.FAIL, f"after its undo, the schema differs: {'; '.join(changed)}"
    owners = "" if clone.with_owners else " on which our role owns all objects"
    return Status.PASS, f"applied and undone on a clone{owners}; its schema is as before{note and f'; {note}'}"


def _not_ours(context: Context, database: Database) -> str:
    """Return why our role may not alter the table, "" if it may. Read-only."""
    with context.adapters.postgres.connect() as connection:
        owner = owner_not_ours(connection, database)
    return f"the table belongs to {owner}, and our role is not a member of it" if owner else ""
