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

NAME, EXERCISE = "ddl-on-clone", "exercise"  # by which each is waived
WITHOUT = "to go on without, waive {} with a reason"
TITLE = "The application's statements run on a clone as before"

Look = Callable[[str], None]  # is called after each change of the clone, with its name
Work = Callable[[Clone, Look], str]  # gives what else is to be said
Connect = Callable[[], AbstractContextManager[Connection]]


def dry_run_of_ddl(
    context: Context, database: Database, what: str, work: Work, rows: sql.Composable | None = None
) -> list[Result]:
    """Make a clone, do `work` on it, which takes back what it did, and see that all is as before. Changes the server only.

    PASS where it is; FAIL where something went wrong in the clone, as it would in the target; UNKNOWN where there was none.
    The application's statements are executed before, and each time that `work` has changed the clone. `rows` is a condition
    on rows `t` of the plan's table that `work` needs.
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
        status, said = Status.UNKNOWN, f"{said}; no clone, or it is left: {error.what}"
    seconds = round(monotonic() - begun, 2)
    way_on = f"; {WITHOUT.format(NAME)}" if status is Status.UNKNOWN else ""  # where it failed, so it would in the target
    title = "The DDL runs on a schema-only clone, there and back"
    note = f"; {exercise.note}" if exercise.note else ""
    tried = Result(NAME, title, status, f"{what}: {said}{note}{way_on}", {"seconds": seconds})
    return [tried, *exercise.results()]


class Exercised:
    """The application's statements, as they end on scratch databases before and after a change."""

    def __init__(
        self,
        context: Context,
        rows: Mapping[Name, sql.Composable] | None = None,
        meant: Collection[str] | None = None,
    ) -> None:
        self.context = context
        self.rows = rows or {}  # conditions on rows that are wanted besides
        self.problem = ""
        self.compared: Compared | None = None
        role = context.target.database.application_role
        try:
            self.compared = Compared(trial.chosen(context.adapters.postgres, role, context.plan.exercise), meant)
        except AdapterError as error:
            self.problem = error.what

    @property
    def statements(self) -> bool:
        """Whether there are any to exercise."""
        return self.compared is not None and bool(self.compared.of.statements)

    def fill(self, clone: Connection) -> None:
        """Copy the rows that the statements need from the target into a clone. Changes the clone."""
        history = self.context.plan.history_tables  # whose rows the DDL brings itself
        statements, path = (self.compared.of.statements, self.compared.of.search_path) if self.compared else ([], "")
        with self.context.adapters.postgres.connect() as connection:
            rows = sample(connection, statements, path, history, self.rows)
        copy_into(clone, rows)

    def begin(self, connect: Connect, *, with_owners: bool) -> None:
        """Execute the statements before the change. Changes nothing that lasts."""
        self._with(connect, lambda compared, connection: compared.begin(connection, with_owners=with_owners))

    def again(self, connect: Connect, change: str) -> None:
        """Execute them after it. Changes nothing that lasts."""
        self._with(connect, lambda compared, connection: compared.again(connection, change))

    @property
    def note(self) -> str:
        """Why none was exercised, "" where some were, or where a result says so."""
        if self.compared is None or self.problem or self.context.plan.exercise:
            return ""
        if self.statements and (self.compared.ran or not self.compared.after):
            return ""
        said = str(self.compared) if self.compared.after else not_exercised(self.compared.left_out)
        return f"no statement of the application was tried: {said or self.compared.of.source}"

    def results(self) -> list[Result]:
        """What came of it; nothing where there was no statement to try."""
        found = self.compared
        if self.note or (found is not None and not self.problem and self.statements and not found.after):
            return []  # there was none, or nothing came about before which and after which it could run
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
        return Status.FAIL, f"taken back, it leaves the schema changed: {'; '.join(changed)}"
    owners = "" if clone.with_owners else ", whose objects are all ours"
    return Status.PASS, f"done and taken back on a clone{owners}, which is as before{note and f'; {note}'}"


def _not_ours(context: Context, database: Database) -> str:
    """Why our role may not change the shape of the table, "" where it may. Read-only."""
    with context.adapters.postgres.connect() as connection:
        owner = owner_not_ours(connection, database)
    return f"the table belongs to {owner}, for whom our role may not act" if owner else ""
