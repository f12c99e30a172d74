"""The SQL terms that every kind of backfill gives its removal, and the names of the tables that a run keeps."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self

from psycopg import sql

from runbook_lib.config.plan import BackfillOfColumn, Database
from runbook_lib.postgres import Connection, Row
from runbook_lib.postgres.catalog import OWN_SCHEMA
from runbook_lib.postgres.connection import exists, one


@dataclass(frozen=True)
class Bounds:
    """Limits of a removal: edited values that go too, approved rows only, and known earlier values."""

    decided: Sequence[str] = ()  # keys, as text, of rows whose edited values go too
    approved_only: bool = False
    prior: sql.Identifier | None = None  # the table of rows' earlier values, if they are read


UNBOUND = Bounds()


def written_by_triggers(database: Database) -> list[sql.Identifier]:
    """Name the tables that, by the plan, triggers may write when a row changes. Pure."""
    named = [name for tables in database.triggers.values() for name in tables]
    return [sql.Identifier(*(name.split(".") if "." in name else (database.schema_, name))) for name in named]


EDITED = {"keep": "kept as they are", "clear": "cleared too", "list": "as decided, row by row"}


class EarlierRows(Protocol):
    """The backup's rows of a backfill's table."""

    def fetch(self, connection: Connection, key: str, column: str) -> None:
        """Read two columns into the session's temporary table `FETCHED`."""

    def file(self) -> Path:
        """Write the table's data into a file, as pg_restore does."""


@dataclass(frozen=True)
class Survey:
    """What a preview says about the rows of a backfill's table."""

    terms: "BackfillTerms"  # with what the backup adds
    rows: int = 0
    kept: int = 0  # rows that will not hold what most cleared rows hold
    would: tuple[str, ...] = ()  # `{rows}` is the number of affected rows
    loses: tuple[str, ...] = ()
    volumes: dict[str, int] = field(default_factory=dict)
    misfits: tuple[str, ...] = ()  # why rows cannot get back their earlier values


class BackfillTerms(ABC):
    """A backfill as SQL over its table `t`; `run` is part of the names of the tables that this run keeps."""

    affected: sql.Composable  # condition: the row holds something to clear
    perhaps: sql.Composable  # cheaper condition, true for each affected row
    kept_of_affected: sql.Composable  # what an affected row holds once cleared
    fill: sql.Composable  # the constant that most cleared rows hold
    plain: sql.Composable  # condition: the cleared row holds `fill`; false if a quick check cannot show it
    value: sql.Composable  # what any row holds once cleared
    value_unless_plain: sql.Composable  # the same for a row that is not `plain`
    type_name: str  # of the column
    fills_null: bool  # whether `fill` is NULL

    def __init__(self, database: Database, spec: BackfillOfColumn, run: str, bounds: Bounds) -> None:
        self.database = database
        self.spec = spec
        self.run = run
        self.bounds = bounds
        self.table = sql.Identifier(database.schema_, database.table)
        self.key = sql.Identifier(database.key)
        self.column = sql.Identifier(spec.name)
        self.undo = self.own("undo")
        self.approved = self.own("approved")
        self.prior = self.own("former")

    @abstractmethod
    def over(self, column: str) -> Self:
        """Return the same terms over another column that holds such values."""

    @abstractmethod
    def bound(self, bounds: Bounds) -> Self:
        """Return the same terms within other bounds."""

    @property
    @abstractmethod
    def columns_read(self) -> list[str]:
        """Name the columns that decide whether and how a row is cleared."""

    @property
    @abstractmethod
    def decided(self) -> str:
        """Return, as text, the decisions on what to clear and what to leave."""

    @abstractmethod
    def expected(self, connection: Connection) -> AbstractContextManager[tuple[sql.Composable, sql.Composable]]:
        """Yield the term for a cleared row's text, and what the term joins to `t`; the caller opens a transaction."""

    @abstractmethod
    def prepare_prior(self, connection: Connection) -> None:
        """Create the empty table for what rows held before the backfill. Changes the runbook's own tables."""

    @abstractmethod
    def keep_earlier(self, connection: Connection, backup: EarlierRows) -> None:
        """Record what rows held before the backfill, if they must hold it again. Changes the runbook's own tables."""

    @abstractmethod
    def in_brief(self, connection: Connection) -> tuple[str, str]:
        """Summarise what clearing would change, and what it would lose. Read-only."""

    @abstractmethod
    def survey(self, connection: Connection, backup: EarlierRows) -> Survey:
        """Survey the rows of the table. Creates temporary tables, which end with the session; otherwise read-only.

        Raises:
            PreconditionError: The backup lacks the table or the column, and the removal needs its values.
        """

    @abstractmethod
    def edited_rows(self, connection: Connection) -> Iterator[Row]:
        """Yield each row whose value a user has edited: `key` as text, `edited`, and `written`. Read-only."""

    @property
    def reads_earlier_values(self) -> bool:
        """Report whether each row gets its own value from the backup."""
        return False

    def with_prior(self, prior: sql.Identifier) -> Self:
        """Return the same terms, with rows' earlier values in a table."""
        return self.bound(replace(self.bounds, prior=prior))

    def known(self, connection: Connection) -> Self:
        """Return the same terms, with the earlier values that this run has read, if any. Read-only."""
        there = self.reads_earlier_values and exists(connection, self.prior)
        return self.with_prior(self.prior) if there else self

    def comparable(self, term: sql.Composable) -> sql.Composable:
        """Return a value in a form that is equal exactly where two values of the column are the same."""
        return term

    def saved(self, term: sql.Composable) -> sql.Composable:
        """Return a value of the column in a form that an array can hold."""
        return term

    def restored(self, term: sql.Composable) -> sql.Composable:
        """Turn a `saved` value back into a value of the column."""
        return term

    def differ(self, one_: sql.Composable, other: sql.Composable) -> sql.Composed:
        """Match two values of the column that differ; NULL is a value like any other."""
        return sql.SQL("({} IS DISTINCT FROM {})").format(self.comparable(one_), self.comparable(other))

    def same(self, one_: sql.Composable, other: sql.Composable) -> sql.Composed:
        """Match two values of the column that are the same."""
        return sql.SQL("({} IS NOT DISTINCT FROM {})").format(self.comparable(one_), self.comparable(other))

    def of(self, row: str) -> sql.Identifier:
        """Name the column of a row."""
        return sql.Identifier(row, self.spec.name)

    def own(self, name: str) -> sql.Identifier:
        """Name a table of this run in the runbook's own schema."""
        return sql.Identifier(OWN_SCHEMA, f"{name}_{self.run}")

    @property
    def written_by_triggers(self) -> list[sql.Identifier]:
        """Name the tables that, by the plan, triggers may write when a row is cleared."""
        return written_by_triggers(self.database)

    def among_approved(self) -> Self:
        """Return the same terms, for approved rows only."""
        return self.bound(replace(self.bounds, approved_only=True))

    def filled(self, query: sql.SQL, **parts: sql.Composable) -> sql.Composed:
        """Fill a query with the backfill's terms and any others."""
        return query.format(**{**self.terms(), **parts})

    def terms(self) -> dict[str, sql.Composable]:
        """Return the terms that every query may use, by name."""
        return {
            "table": self.table,
            "key": self.key,
            "column": self.column,
            "undo": self.undo,
            "prior": self.bounds.prior or self.prior,
            "affected": self.affected,
            "kept_of_affected": self.kept_of_affected,
            "old": self.saved(self.of("t")),
        }

    def touch(self) -> sql.Composable:
        """Return the rest of an UPDATE's SET list: it sets the plan's touched column to now, or is empty."""
        name = self.spec.touch_column
        return sql.SQL(", {} = now()").format(sql.Identifier(name)) if name else sql.SQL("")

    def touched(self, of: str = "t") -> sql.Composable:
        """Return the value of the touched column; NULL if the plan touches none."""
        name = self.spec.touch_column
        return sql.Identifier(of, name) if name else sql.SQL("NULL::timestamptz")

    def count(self, connection: Connection) -> int:
        """Count the rows that hold something to clear. Read-only."""
        return int(one(connection, self.counted)["n"])

    @property
    def counted(self) -> sql.Composed:
        """Build the query that counts the rows that hold something to clear."""
        return self.filled(sql.SQL("SELECT count(*) AS n FROM {table} t WHERE {affected}"))

    def and_approved(self) -> sql.Composable:
        """Return the rest of a condition: the row is approved; empty where all rows are."""
        if not self.bounds.approved_only:
            return sql.SQL("")
        return sql.SQL(" AND EXISTS (SELECT FROM {} a WHERE a.key = t.{})").format(self.approved, self.key)
