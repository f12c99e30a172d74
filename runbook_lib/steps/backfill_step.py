"""The base of steps on a backfill of the plan: its table, its rows, and its choices."""

import csv
import io
import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from runbook_lib.config.plan import Backfill as ListSpec
from runbook_lib.config.plan import ClearingStep, ScalarBackfill
from runbook_lib.config.plan.backfills import Place
from runbook_lib.context import Context, builds, old_code
from runbook_lib.errors import AdapterError, ParametersError, PreconditionError
from runbook_lib.journal.folder import RunFolder
from runbook_lib.postgres import Connection
from runbook_lib.postgres.backfill_kinds import backfill_terms
from runbook_lib.postgres.backfill_terms import BackfillTerms, Bounds
from runbook_lib.postgres.blockers import lasting
from runbook_lib.postgres.dependents import TRIGGERS
from runbook_lib.postgres.indexes import Indexes, Reading, reading, unscanned
from runbook_lib.postgres.restore.fetch import fetched
from runbook_lib.results import Found, Precondition, Status, When
from runbook_lib.steps import Step

FILE = "edited-rows.csv"
HEAD = ["key", "edited", "as written by the backfill", "decision"]
MOST = 100_000  # rows that a person can be asked to decide
DECISIONS = ("keep", "clear")
TIMEOUT = 3600.0  # seconds for reading the backup


@dataclass(frozen=True)
class Decisions:
    """The decisions on rows with edited entries."""

    clear: tuple[str, ...]
    keep: int
    undecided: int


def write(folder: RunFolder, rows: Iterable[dict[str, Any]], file: str = FILE) -> None:
    """Write the list of rows to decide, unless the file exists. Changes the run folder only.

    Raises:
        ParametersError: There are more rows than a person can decide.
    """
    if (folder.path / file).exists():
        return
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(HEAD)
    for number, row in enumerate(rows):
        if number >= MOST:
            raise ParametersError(
                f"More than {MOST} rows hold edited entries: too many to decide one by one.",
                state="Nothing was touched.",
                safe_next="Choose `edited: keep` or `edited: clear` in the plan.",
            )
        table.writerow([row["key"], json.dumps(row["edited"], ensure_ascii=False), json.dumps(row["written"]), ""])
    folder.write_text(file, text.getvalue())


def read(folder: RunFolder, name: str = FILE) -> Decisions:
    """Read the decisions from the file. Read-only.

    Raises:
        ParametersError: A decision is neither keep nor clear, or the file is not as it was written.
    """
    with open(folder.path / name, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    wrong = [row for row in rows[1:] if len(row) != len(HEAD) or row[3].strip() not in (*DECISIONS, "")]
    if rows[:1] != [HEAD] or wrong:
        raise ParametersError(
            f"{name} cannot be read: " + (f"the row {wrong[0]}" if wrong else "its first line was changed") + " is wrong.",
            where=str(folder.path / name),
            state="Nothing was touched.",
            safe_next=f"Write {' or '.join(DECISIONS)} into the last column, and change nothing else.",
        )
    decided = [(row[0], row[3].strip()) for row in rows[1:]]
    return Decisions(
        tuple(key for key, decision in decided if decision == "clear"),
        sum(decision == "keep" for _, decision in decided),
        sum(decision == "" for _, decision in decided),
    )


def begin(context: Context, step: str, connection: Connection, indexes: Indexes) -> None:
    """Keep and journal how often the indexes were scanned; keep a reading that is still current. Read-only."""
    known, now = since(context, step), reading(connection, indexes)
    if known and known.scans == now.scans:
        return
    context.folder.write_json(_file(step), asdict(now))
    context.reporter.append("index-scans", step=step, at=now.at, scans=now.scans)


def since(context: Context, step: str) -> Reading | None:
    """Return the reading that the preview left, if any. Read-only."""
    kept = context.folder.read_json(_file(step))
    return Reading(**kept) if kept else None


def _file(step: str) -> str:
    return f"evidence/index-scans-{step}.json"


FEW = 0.02  # share of rows up to which access by key is fastest
MANY_KEPT = 0.3  # share of rows to fill in a new column, above which clearing in place is cheaper

STRATEGIES = {
    "auto": "the one that suits best",
    "swap": "a cleared column takes the place of the old one, which is kept; two short locks",
    "batched": "in place, in short transactions over ranges of pages",
    "keyed": "in place, by key, for few rows",
}


@dataclass(frozen=True)
class Circumstances:
    """The inputs of the choice; row counts are of the whole table."""

    rows: int
    affected: int
    kept: int  # rows that will hold another value than a cleared row, NULLs included
    touches: bool  # whether each changed row's time of change is set
    hanging: tuple[str, ...]  # objects that depend on the column and would not follow to a new one
    stopped: bool  # whether nobody else uses the table during the step
    fired: Mapping[str, str] = field(default_factory=dict)  # strategy -> why the triggers it would fire must not fire


@dataclass(frozen=True)
class Choice:
    """A strategy, its reason, and the reason against each refused one."""

    strategy: str
    because: str
    refused: Mapping[str, str]


def choose(found: Circumstances, requested: str = "auto") -> Choice:
    """Choose the strategy; the engineer's request is refused only if it is impossible. Pure."""
    refused = _refused(found)
    if requested != "auto":
        return Choice(requested, "chosen by the engineer", refused)
    suits = _suiting(found, refused)
    left = [name for name in ("swap", "batched", "keyed") if name not in refused]
    if suits.strategy in left or not left:
        return suits
    return replace(suits, strategy=left[0], because=f"{suits.strategy} is refused: {refused[suits.strategy]}")


def _suiting(found: Circumstances, refused: Mapping[str, str]) -> Choice:
    share, kept = _share(found.affected, found), _share(found.kept, found)
    if share <= FEW:
        return Choice("keyed", f"{share:.1%} of the rows are affected: few", refused)
    if "swap" in refused:
        return Choice("batched", f"{share:.0%} of the rows are affected, and swap is refused: {refused['swap']}", refused)
    if not found.stopped:
        return Choice("batched", f"{share:.0%} of the rows are affected, and the application is live", refused)
    if kept > MANY_KEPT:
        return Choice("batched", f"{kept:.0%} of the rows would have to be filled in a new column", refused)
    return Choice("swap", f"{share:.0%} of the rows are affected, {kept:.1%} keep a value of their own", refused)


def _refused(found: Circumstances) -> dict[str, str]:
    reasons = ["every changed row's time of change must be set"] if found.touches else []
    reasons += found.hanging
    reasons += [found.fired["swap"]] if "swap" in found.fired else []
    return {**found.fired, **({"swap": "; ".join(reasons)} if reasons else {})}


def _share(rows: int, found: Circumstances) -> float:
    return rows / found.rows if found.rows else 0.0


@dataclass(frozen=True)
class RowsOfBackup:
    """The rows of one table in the run's backup."""

    context: Context
    place: Place

    def fetch(self, connection: Connection, key: str, column: str) -> None:
        """Read two columns into the temporary table `FETCHED` of the session.

        Raises:
            PreconditionError: The backup does not have them, or a value is not of the column's type.
        """
        dump, table = self.context.dump, (self.place.schema_, self.place.table)
        try:
            fetched(connection, self.context.adapters.dump_tools, dump, table, [key, column], {}, lambda: None)
        except psycopg.DataError as error:
            raise PreconditionError(
                f"A value of {column} in the backup is not of the column's type: {error.diag.message_primary}.",
                where=str(dump.path),
                state="Nothing was changed.",
                safe_next="Choose another `cleared` in the plan, or another backup.",
            ) from None

    def file(self) -> Path:
        """Write the table's data into a file with pg_restore."""
        rows, place = self.context.adapters.scratch / "table-before", self.place
        self.context.adapters.dump_tools.rows_of(self.context.dump.path, place.schema_, place.table, rows, TIMEOUT)
        return rows


class BackfillStep(Step):
    """A step on the rows that one of the plan's backfills wrote to."""

    CHOICES: Mapping[str, Mapping[str, str]] = {
        "STRATEGY": STRATEGIES,
        "TRIGGERS": TRIGGERS,
        "EDITED": {
            "keep": "what users edited since the backfill stays",
            "clear": "what users edited since the backfill goes too",
            "list": f"decided row by row, in {FILE}",
        },
    }

    def default(self, choice: str) -> str:
        """Return the plan's value of a choice, for an engineer who does not choose. Read-only."""
        return self.entry.edited if choice == "EDITED" else super().default(choice)

    @property
    @abstractmethod
    def stopped(self) -> bool:
        """Whether nobody else may use the table during the step."""

    @property
    def number(self) -> int:
        """The index of the plan's backfill that it removes."""
        assert isinstance(self.spec, ClearingStep)
        columns = [each.column for each in self.context.plan.backfills]
        return columns.index(self.spec.backfill) if self.spec.backfill else 0

    @property
    def entry(self) -> ListSpec | ScalarBackfill:
        """The plan's entry of the backfill, with the engineer's choice on edited values."""
        return self.context.as_chosen(self.context.plan.backfills[self.number])

    @property
    def table(self) -> sql.Identifier:
        """The table that it works on."""
        return sql.Identifier(self.entry.place.schema_, self.entry.place.table)

    @property
    def backup(self) -> RowsOfBackup:
        """The table's rows in the backup."""
        return RowsOfBackup(self.context, self.entry.place)

    @property
    def backfill(self) -> BackfillTerms:
        """The values to clear, with the decisions on edited values and the earlier values that this run has read."""
        if not self._terms.reads_earlier_values:
            return self._terms
        with self.context.adapters.postgres.connect() as connection:
            return self._terms.known(connection)

    @cached_property
    def _terms(self) -> BackfillTerms:
        with self.context.adapters.postgres.connect() as connection:
            run = self.context.run_of(self.number)
            plain = backfill_terms(connection, self.entry, self.context.plan.database_, run)
            if self.entry.edited != "list":
                return plain
            file = self.decisions_file
            write(self.context.folder, plain.edited_rows(connection), file)
        return plain.bound(Bounds(decided=read(self.context.folder, file).clear))

    @property
    def decisions_file(self) -> str:
        """The file in the run folder in which edited values are decided row by row."""
        return f"edited-rows-{self.name}.csv" if self.number else FILE

    @contextmanager
    def looking(self) -> Iterator[Connection]:
        """Open a connection to look at the table; while others use it, no query scans the column's indexes."""
        with (
            self.context.adapters.postgres.connect() as connection,
            nullcontext() if self.stopped else unscanned(connection),
        ):
            yield connection


def no_feature_service(context: Context) -> Found:
    """Check that every service is stopped, or runs code without the feature. Read-only."""
    lines, statuses = [], set()
    for service in context.plan.services:
        status, text = _looked(context, service)
        statuses.add(status)
        lines.append(f"{service} {text}")
    worst = next(
        status for status in (Status.FAIL, Status.UNKNOWN, Status.PASS) if status in statuses or status is Status.PASS
    )
    return worst, "; ".join(lines)


def _looked(context: Context, service: str) -> tuple[Status, str]:
    if not context.adapters.services.is_running(service):
        return Status.PASS, "is stopped"
    try:
        version = builds.running(context, service)
    except AdapterError as error:
        return Status.UNKNOWN, f"runs, in an unknown version: {error.what}"
    head = builds.expected(context, service)
    if old_code.live_commits(context, context.target.services.built_from[service]):
        return Status.FAIL, f"runs {version}, and its repository still has the feature"
    if not builds.same(version, head):
        return Status.FAIL, f"runs {version}, not {head[:12]}, which is without the feature"
    return Status.PASS, f"runs {version}, without the feature"


def none_lasting(step: Step, table: sql.Identifier, *, without_application: bool) -> Precondition:
    """Make a precondition that no session locks the table for long; the step itself waits for later ones.

    Args:
        step: The step that has the precondition.
        table: The table that it works on.
        without_application: Whether to ignore the application's sessions, because they end before the step acts.
    """
    context = step.context

    def look() -> Found:
        if context.state.steps:
            return Status.PASS, "not checked: the run has begun, and the step waits for such sessions"
        with context.adapters.postgres.connect() as connection:
            role = context.target.database.application_role if without_application else None
            found = lasting(connection, table, role)
        if not found:
            return Status.PASS, "nobody does"
        return Status.FAIL, f"{'; '.join(map(str, found))}. Let them end, or end them; then preview again"

    title = "No long or prepared transaction and no index build locks the table"
    return step.need("lasting", title, When.ONLY_BEFOREHAND, look, waivable=True)
