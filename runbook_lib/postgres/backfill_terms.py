"""What every kind of backfill gives a removal: the terms of its SQL over its table, and the tables kept of it."""

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
    """What narrows a clearing down: edited values that were decided to go, approved rows alone, and earlier values known."""

    decided: Sequence[str] = ()  # keys, as text, of rows whose edited values go too
    approved_only: bool = False
    prior: sql.Identifier | None = None  # the table of the values that rows had before, where those are read


UNBOUND = Bounds()


def written_by_triggers(database: Database) -> list[sql.Identifier]:
    """The tables that triggers may write when a row is changed, by the plan. Pure."""
    named = [name for tables in database.triggers.values() for name in tables]
    return [sql.Identifier(*(name.split(".") if "." in name else (database.schema_, name))) for name in named]


EDITED = {"keep": "kept as they are", "clear": "cleared too", "list": "as decided, row by row"}


class EarlierRows(Protocol):
    """The backup's rows of a backfill's table."""

    def fetch(self, connection: Connection, key: str, column: str) -> None:
        """Read two columns into the temporary table `FETCHED` of the session."""

    def file(self) -> Path:
        """Write the table's data into a file, as pg_restore does."""


@dataclass(frozen=True)
class Survey:
    """The rows of a backfill's table, and what a preview says of them."""

    terms: "BackfillTerms"  # with what the backup says
    rows: int = 0
    kept: int = 0  # that will not hold what most cleared rows hold
    would: tuple[str, ...] = ()  # with {rows} for how many are affected
    loses: tuple[str, ...] = ()
    volumes: dict[str, int] = field(default_factory=dict)
    misfits: tuple[str, ...] = ()  # why rows cannot hold what they held before


class BackfillTerms(ABC):
    """A backfill, as SQL over its table `t`; `run` names the tables that this run keeps of it."""

    affected: sql.Composable  # a condition: the row holds what is to be cleared
    perhaps: sql.Composable  # one that the server answers quicker, and that is true of each affected row
    kept_of_affected: sql.Composable  # what an affected row holds once it is cleared
    fill: sql.Composable  # what most cleared rows then hold, the same for all
    plain: sql.Composable  # that the row then holds that; where a glance does not tell so, it is false
    value: sql.Composable  # what any row holds once it is cleared
    value_unless_plain: sql.Composable  # the same of one that is not plain
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
        """The same terms, over another column that holds such values."""

    @abstractmethod
    def bound(self, bounds: Bounds) -> Self:
        """The same, narrowed down."""

    @property
    @abstractmethod
    def columns_read(self) -> list[str]:
        """The columns on which it depends whether and how a row is cleared."""

    @property
    @abstractmethod
    def decided(self) -> str:
        """What was decided on what is cleared and what is left then, as text."""

    @abstractmethod
    def expected(self, connection: Connection) -> AbstractContextManager[tuple[sql.Composable, sql.Composable]]:
        """What a row `t` is to hold once cleared, as a term for its text, and what it joins to `t`; within a transaction."""

    @abstractmethod
    def prepare_prior(self, connection: Connection) -> None:
        """Make the empty table of what is known of rows before the backfill. Changes the runbook's own tables."""

    @abstractmethod
    def keep_earlier(self, connection: Connection, backup: EarlierRows) -> None:
        """Keep what rows held before the backfill, where they are to hold it again. Changes the runbook's own tables."""

    @abstractmethod
    def in_brief(self, connection: Connection) -> tuple[str, str]:
        """What clearing would change, and lose, in a phrase each. Read-only."""

    @abstractmethod
    def survey(self, connection: Connection, backup: EarlierRows) -> Survey:
        """Look at the rows of the table. Makes temporary tables, which end with the session; else read-only.

        Raises:
            PreconditionError: The backup lacks the table or the column, where its values are wanted.
        """

    @abstractmethod
    def edited_rows(self, connection: Connection) -> Iterator[Row]:
        """Each row whose value a user has edited: `key` as text, `edited`, and `written`. Read-only."""

    @property
    def reads_earlier_values(self) -> bool:
        """Whether each row gets a value of its own out of the backup."""
        return False

    def with_prior(self, prior: sql.Identifier) -> Self:
        """The same, where the values that rows had before are in a table."""
        return self.bound(replace(self.bounds, prior=prior))

    def known(self, connection: Connection) -> Self:
        """The same, with the earlier values that this run has read, where it has. Read-only."""
        there = self.reads_earlier_values and exists(connection, self.prior)
        return self.with_prior(self.prior) if there else self

    def comparable(self, term: sql.Composable) -> sql.Composable:
        """A value of the column in a form in which two are equal just where they are the same."""
        return term

    def saved(self, term: sql.Composable) -> sql.Composable:
        """A value of the column in a form of which many fit into an array."""
        return term

    def restored(self, term: sql.Composable) -> sql.Composable:
        """A value that was `saved`, as one of the column."""
        return term

    def differ(self, one_: sql.Composable, other: sql.Composable) -> sql.Composed:
        """That two values of the column differ; NULL is a value like any other."""
        return sql.SQL("({} IS DISTINCT FROM {})").format(self.comparable(one_), self.comparable(other))

    def same(self, one_: sql.Composable, other: sql.Composable) -> sql.Composed:
        """That two values of the column are the same."""
        return sql.SQL("({} IS NOT DISTINCT FROM {})").format(self.comparable(one_), self.comparable(other))

    def of(self, row: str) -> sql.Identifier:
        """The column of a row."""
        return sql.Identifier(row, self.spec.name)

    def own(self, name: str) -> sql.Identifier:
        """A table of this run in the runbook's own schema."""
        return sql.Identifier(OWN_SCHEMA, f"{name}_{self.run}")

    @property
    def written_by_triggers(self) -> list[sql.Identifier]:
        """The tables that triggers may write when a row is cleared, by the plan."""
        return written_by_triggers(self.database)

    def among_approved(self) -> Self:
        """The same, of approved rows alone."""
        return self.bound(replace(self.bounds, approved_only=True))

    def filled(self, query: sql.SQL, **parts: sql.Composable) -> sql.Composed:
        """A query with the backfill's own terms, and any others, put in."""
        return query.format(**{**self.terms(), **parts})

    def terms(self) -> dict[str, sql.Composable]:
        """The terms that every query may use, by name."""
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
        """The rest of an UPDATE's SET list: the plan's column that takes the present time, or nothing."""
        name = self.spec.touch_column
        return sql.SQL(", {} = now()").format(sql.Identifier(name)) if name else sql.SQL("")

    def touched(self, of: str = "t") -> sql.Composable:
        """The value of the touched column, NULL where the plan touches none."""
        name = self.spec.touch_column
        return sql.Identifier(of, name) if name else sql.SQL("NULL::timestamptz")

    def count(self, connection: Connection) -> int:
        """How many rows hold what is to be cleared. Read-only."""
        return int(one(connection, self.counted)["n"])

    @property
    def counted(self) -> sql.Composed:
        """A query that gives how many rows hold what is to be cleared."""
        return self.filled(sql.SQL("SELECT count(*) AS n FROM {table} t WHERE {affected}"))

    def and_approved(self) -> sql.Composable:
        """The rest of a condition: that a row is among the approved ones, or nothing where all are."""
        if not self.bounds.approved_only:
            return sql.SQL("")
        return sql.SQL(" AND EXISTS (SELECT FROM {} a WHERE a.key = t.{})").format(self.approved, self.key)
