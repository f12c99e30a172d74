"""Executes the application's statements on a clone, rolls each back, and compares the results before and after a change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

import psycopg
from psycopg import sql

from runbook_lib.config.plan.exercise import Exercise
from runbook_lib.postgres import Connection, Row
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.exercise.outside import Outside, keep_quiet, outside
from runbook_lib.postgres.exercise.statement import Statement, Unfit, read
from runbook_lib.postgres.exercise.values import Shape, drawn, execute, owner_of_column, prepare, shape
from runbook_lib.postgres.exercise.written import Counts, Written, counts, unlike, written
from runbook_lib.postgres.sessions import frequent

NUMBER = 20  # most frequent statements to run
STATEMENT, ALL = 2.0, 10.0  # seconds for one statement, and for all of them
NONE = "pg_stat_statements is not on this server, and the plan names none under `exercise`"
SHOWN = 1  # statements shown for each reason

_SEARCH_PATH = """
SELECT substr(c, 13) AS it FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c
WHERE c LIKE 'search\\_path=%%' AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = %s))
  AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1"""
_SEQUENCES = """SELECT format('%I.%I', schemaname, sequencename) AS name, last_value AS last, start_value AS start
FROM pg_sequences WHERE has_sequence_privilege(format('%I.%I', schemaname, sequencename), 'SELECT, UPDATE')"""


@dataclass
class Chosen:
    """The statements to exercise, their source, and those left out, by the reason."""

    role: str  # the application's
    source: str
    search_path: str
    statements: list[Statement] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def chosen(postgres: Postgres, role: str, planned: Sequence[Exercise]) -> Chosen:
    """Choose the plan's statements or, if it has none, the application's most frequent ones. Read-only.

    Raises:
        AdapterError: The server cannot be reached, or does not let us see what the application executes.
    """
    with postgres.connect() as connection:
        row = connection.execute(_SEARCH_PATH, [role]).fetchone()
    path = row["it"] if row else '"$user", public'
    if planned:
        found, given = Chosen(role, "of the plan", path), [(each.sql, each.values) for each in planned]
    elif (texts := frequent(postgres, role)) is not None:
        found = Chosen(role, f"of {role} (the most frequent in pg_stat_statements)", path)
        given = [(text, {}) for text in texts]
    else:
        return Chosen(role, NONE, path)
    for text, values in given:
        try:
            statement = read(text, values)
        except Unfit as unfit:
            found.left_out[str(unfit)].append(" ".join(text.split()))
            continue
        if planned or len(found.statements) < NUMBER:
            found.statements.append(statement)
    return found


@dataclass(frozen=True)
class Ran:
    """A statement that ran: its values, the shape of its tables, and what it wrote in each of two runs."""

    statement: Statement
    values: Sequence[str | None]
    shape: Shape
    wrote: list[Written | None]


@dataclass
class Compared:
    """The statements' results before the change, and what fails since."""

    of: Chosen
    meant: Collection[str] | None = None  # columns that the change itself writes; None if any may differ
    as_ours: bool = False  # whether they run as our role, which may not act for the application's
    ran: list[Ran] = field(default_factory=list)
    failed_before: dict[str, str] = field(default_factory=dict)  # statement -> what the server said
    left_out: dict[str, list[str]] = field(init=False)  # statements by the reason
    quiet: list[str] = field(default_factory=list)  # triggers that were disabled
    fails: list[str] = field(default_factory=list)
    names_gone: dict[str, str] = field(default_factory=dict)  # statement -> what it names that the change removes
    after: list[str] = field(default_factory=list)  # the changes after which they ran

    def __post_init__(self) -> None:
        self.left_out = defaultdict(list, {reason: [*texts] for reason, texts in self.of.left_out.items()})

    def begin(self, connection: Connection, *, with_owners: bool) -> None:
        """Execute each statement before the change, and roll it back. Changes nothing that lasts.

        Statements run as our role if objects do not have the same owners as in the target.
        """
        may = outside(connection)
        self.as_ours = not (with_owners and _may_act_for(connection, self.of.role))
        with self._rolled_back(connection, may) as self.quiet:
            begun = monotonic()
            for statement in self.of.statements:
                if monotonic() - begun > ALL:
                    self.left_out[f"the {ALL:g} s for all of them were over"].append(str(statement))
                elif what := may.reached_by(statement):
                    self.left_out[f"{what} may act outside the database"].append(str(statement))
                else:
                    self._first(connection, statement)
        if self.meant is not None:
            with self._rolled_back(connection, may):
                for each in self.ran:
                    each.wrote.append(self._executed(connection, each.statement, each.values))

    def _first(self, connection: Connection, statement: Statement) -> None:
        try:
            with connection.transaction(force_rollback=True):
                prepare(connection, statement)
                found = shape(connection, statement)
                connection.execute("SET LOCAL ROLE NONE")  # the application may write rows that it may not read
                values = drawn(connection, statement, found)
                self._act(connection)
                before = counts(connection)
                execute(connection, values)
                self.ran.append(Ran(statement, values, found, [self._wrote(connection, before)]))
        except Unfit as unfit:
            self.left_out[str(unfit)].append(str(statement))
        except psycopg.Error as error:
            _require_alive(connection, error)
            self.failed_before[str(statement)] = _said(error)

    def again(self, connection: Connection, change: str) -> None:
        """Execute again, after a change, the statements that ran before it. Changes nothing that lasts."""
        self.after.append(change)
        with self._rolled_back(connection, outside(connection)):
            for each in self.ran:
                try:
                    wrote = self._executed(connection, each.statement, each.values)
                    if not self.fails and (other := self._otherwise(each, wrote)):
                        self.fails.append(f"{each.statement} writes something else after {change}: {', '.join(other)}")
                except psycopg.Error as error:
                    _require_alive(connection, error)
                    if gone := _gone(each, shape(connection, each.statement)):
                        self.names_gone[str(each.statement)] = gone
                    else:
                        self.fails.append(f"{each.statement} fails after {change}: {_said(error)}")

    def _executed(self, connection: Connection, statement: Statement, values: Sequence[str | None]) -> Written | None:
        with connection.transaction(force_rollback=True):
            prepare(connection, statement)
            before = counts(connection)
            execute(connection, values)
            return self._wrote(connection, before)

    def _wrote(self, connection: Connection, before: Counts) -> Written | None:
        if self.meant is None:
            return None
        connection.execute("SET LOCAL ROLE NONE")  # the application may write rows that it may not read
        with connection.transaction():
            return written(connection, before)

    def _otherwise(self, ran: Ran, now: Written | None) -> list[str]:
        first, second = (*ran.wrote, None, None)[:2]
        if self.meant is None or first is None or second is None or now is None:
            return []
        return unlike(first, second, now, self.meant)

    @contextmanager
    def _rolled_back(self, connection: Connection, may: Outside) -> Iterator[list[str]]:
        """Run the block as the application's role and roll everything back, sequences included.

        Yields the triggers that do not fire, since they may act outside the database.
        """
        connection.prepare_threshold = None  # statements are prepared by name
        sequences: dict[str, Row] = {row["name"]: row for row in connection.execute(_SEQUENCES)}
        settings = {"search_path": self.of.search_path, "statement_timeout": f"{STATEMENT:g}s", "lock_timeout": "1s"}
        try:
            with connection.transaction(force_rollback=True):
                quiet = keep_quiet(connection, may)
                for setting in settings.items():
                    connection.execute("SELECT set_config(%s, %s, TRUE)", setting)
                self._act(connection)
                yield quiet
        finally:
            if not connection.closed:
                connection.execute("DEALLOCATE ALL")
                for row in connection.execute(_SEQUENCES).fetchall():
                    if row != (was := sequences.get(row["name"], row)):
                        place = [row["name"], was["last"] or was["start"], was["last"] is not None]
                        connection.execute("SELECT setval(%s, %s, %s)", place)

    def _act(self, connection: Connection) -> None:
        if not self.as_ours:
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(self.of.role)))

    def __str__(self) -> str:
        number = f"{len(self.ran)} statement{'s' * (len(self.ran) != 1)}"
        runs = "run" if len(self.ran) != 1 else "runs"
        parts = [f"{number} {self.of.source} {runs} as before after {' and '.join(self.after)}"] if self.ran else []
        if self.fails:
            parts = list(dict.fromkeys(self.fails))
        if self.as_ours:
            parts.append(f"they ran as our role, which may not act for {self.of.role}")
        if self.quiet:
            parts.append(f"triggers that may act outside the database did not fire: {', '.join(self.quiet)}")
        if self.names_gone:
            parts.append(f"not counted, since they name what is removed: {_listed(self.names_gone)}")
        if self.failed_before:
            parts.append(f"not counted, since they already fail before it: {_listed(self.failed_before)}")
        if left_out := not_exercised(self.left_out):
            parts.append(left_out)
        return "; ".join(parts)


def not_exercised(left_out: Mapping[str, Sequence[str]]) -> str:
    """Say how many statements were not exercised, and why; "" if all were. Pure."""
    if not left_out:
        return ""
    reasons = [f"{len(texts)} ({_first_of(texts)}): {reason}" for reason, texts in left_out.items()]
    return f"not exercised: {'; '.join(reasons)}"


def _may_act_for(connection: Connection, role: str) -> bool:
    """Report whether another role exists and ours may act for it. Read-only."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue):
        return False
    return True


def _gone(ran: Ran, now: Shape) -> str:
    """Name the tables and columns that a statement uses and that existed only before; "" for none."""
    gone = [alias for alias in ran.shape if alias not in now]
    for qualifier, column in sorted(ran.statement.columns):
        if owner_of_column(ran.shape, qualifier, column) and not owner_of_column(now, qualifier, column):
            gone.append(column)
    return ", ".join(dict.fromkeys(gone))


def _require_alive(connection: Connection, error: psycopg.Error) -> None:
    if connection.closed or connection.broken:
        raise error


def _said(error: psycopg.Error) -> str:
    """Return the server's message and the function, without its detail, which may hold values of rows."""
    context = error.diag.context or ""
    where = next((line.split(" line ")[0] for line in context.splitlines() if " function " in line), "")
    said = error.diag.message_primary or str(error).strip()
    return f"{said} ({where})" if where else said


def _listed(found: Mapping[str, str]) -> str:
    shown = [f"{statement}: {why}" for statement, why in list(found.items())[:SHOWN]]
    return f"{len(found)} ({'; '.join(shown)}{'; …' if len(found) > SHOWN else ''})"


def _first_of(texts: Iterable[str]) -> str:
    shown = [text if len(text) <= 60 else f"{text[:59]}…" for text in dict.fromkeys(texts)]
    return ", ".join(shown[:SHOWN]) + (", …" if len(shown) > SHOWN else "")
