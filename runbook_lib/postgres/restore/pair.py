"""A table in two databases, and the SQL terms that identify and compare its rows."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.postgres import Connection
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.fingerprint import hashed
from runbook_lib.postgres.list_column import KINDS, ColumnTypes
from runbook_lib.postgres.restore.shape import INTEGERS, Name, Table, comparable, shared_key, written
from runbook_lib.postgres.restore.stream import Source


@dataclass(frozen=True)
class Pair:
    """A table that exists in both databases; if the feature changed it, `backfill` says how."""

    live: Table
    backup: Table
    backfill: Backfill | None = None
    columns: tuple[str, ...] = ()  # that the feature added
    seed: int = 0

    @property
    def name(self) -> str:
        """Its schema.name."""
        return written(self.live.id)

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The columns that identify rows in both; empty if there are none."""
        return shared_key(self.live, self.backup)

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """The columns that both have, in the live database's order."""
        return tuple(name for name in self.live.names if name in self.backup.names)

    @cached_property
    def feature(self) -> tuple[str, ...]:
        """The shared columns that the feature added."""
        return self._of(self.columns)

    @cached_property
    def touch(self) -> tuple[str, ...]:
        """The shared column with the time of a row's last write, if the plan names one."""
        return self._of([self.backfill.database.backfill.touch_column] if self.backfill else ())

    @cached_property
    def user(self) -> tuple[str, ...]:
        """The shared columns that hold user data."""
        others = {*self.feature, *self.touch, *(self.key if self.numbered else ())}
        return tuple(name for name in self.shared if name not in others)

    @property
    def numbered(self) -> bool:
        """Whether the key is one integer; else its hash is used."""
        return len(self.key) == 1 and all(t.column(self.key[0]).base in INTEGERS for t in (self.live, self.backup))

    @property
    def place(self) -> sql.Composable:
        """The SQL term of a row `t` of either by which it is ordered and found: the key itself or its hash."""
        return sql.Identifier("t", self.key[0]) if self.numbered else self._hash(self.key, 2 * self.seed, key=True)

    def cleared(self, name: str) -> sql.Composable:
        """Return a column of a row `t` of either; for the backfilled column, its value after Option A."""
        if self.backfill is None or name != self.backfill.database.backfill.name or not self.clearable:
            return sql.Identifier("t", name)
        return self.backfill.filled(
            sql.SQL("CASE WHEN {perhaps} THEN {kept} ELSE t.{column} END"), perhaps=self.backfill.perhaps
        )

    def source(self, connection: Connection, table: Table, which: sql.Composable | None = None) -> Source:
        """Return the hashes of one of the two; with a condition, only for those rows `t`."""
        check = None if self.numbered else self._hash(self.key, 2 * self.seed + 1, key=True)
        user, feature, touch = (self._hash(names) if names else None for names in (self.user, self.feature, self.touch))
        return Source(
            connection, table.rows, self.place, self.numbered, (check, user, feature, self._without_backfill, touch), which
        )

    def fingerprint(self, connection: Connection, table: Table) -> tuple[int, int]:
        """Return the number of rows of one of the two, and the sum of their hashes. Read-only."""
        term = self._hash(self.shared) if self.shared else sql.Literal(0)
        query = sql.SQL("SELECT count(*) AS n, coalesce(sum({}), 0) AS s FROM {} t").format(term, table.rows)
        row = one(connection, query)
        return row["n"], int(row["s"])

    def filled(self, connection: Connection, mine: Table, other: Table) -> dict[str, int]:
        """Return the columns that only one of the two has, and how many of its rows hold a value there. Read-only.

        Values that the backfill wrote do not count.
        """
        alone = [name for name in mine.names if name not in other.names]
        if not alone:
            return {}
        counts = [
            sql.SQL("count({}) AS {}").format(self._value(name, mine.column(name).base), sql.Identifier(name))
            for name in alone
        ]
        return one(connection, sql.SQL("SELECT {} FROM {} t").format(sql.SQL(", ").join(counts), mine.rows))

    @cached_property
    def clearable(self) -> bool:
        """Whether Option A can be computed for the backfilled column, wherever the column is."""
        if self.backfill is None:
            return False
        spec = self.backfill.database.backfill
        tables = [table for table in (self.live, self.backup) if spec.name in table.names]
        return self.backfill.base in KINDS and all(
            table.column(spec.name).cast == self.backfill.type_name and set(self.backfill.columns_read) <= set(table.names)
            for table in tables
        )

    @property
    def _without_backfill(self) -> sql.Composed | None:
        """Return the hash of the feature's columns as Option A leaves them; an empty list counts as none."""
        column = self.backfill.database.backfill.name if self.backfill else ""
        if column not in self.feature or not self.clearable:
            return None
        others = [name for name in self.feature if name != column]
        term = sql.SQL('{}::text COLLATE "C"').format(self._value(column, ""))
        return hashed([term, *comparable(self.live, self.backup, others)])

    def _value(self, name: str, base: str) -> sql.Composable:
        """Return a column's value after Option A, as jsonb if it holds a list of JSON; an empty list counts as none."""
        of_backfill = self.backfill is not None and name == self.backfill.database.backfill.name and self.clearable
        if of_backfill and self.backfill:
            term: sql.Composable = sql.SQL(self.backfill.kind.value).format(c=self.cleared(name))
        else:
            term = self.cleared(name)
        return sql.SQL("nullif({}, '[]'::jsonb)").format(term) if of_backfill or base == "jsonb" else term

    def _hash(self, names: Iterable[str], seed: int = 0, *, key: bool = False) -> sql.Composed:
        return hashed(comparable(self.live, self.backup, names, key=key), seed)

    def _of(self, names: Collection[str | None]) -> tuple[str, ...]:
        return tuple(name for name in self.shared if name in names and name not in self.key)


@dataclass(frozen=True)
class Matched:
    """The tables of two databases: in both, in only one, and those whose rows are not compared, with the reason."""

    pairs: tuple[Pair, ...]
    only_live: tuple[Table, ...]
    only_backup: tuple[Table, ...]
    skipped: Mapping[str, str]


def matched(
    live: Mapping[Name, Table], backup: Mapping[Name, Table], database: Database | None, history: Collection[Name]
) -> Matched:
    """Match the tables of two databases; `history` are the migration tool's, whose rows are not compared."""
    columns = tuple(database.columns) if database else ()
    why = {id: reason for id, table in (*live.items(), *backup.items()) if (reason := _why_skipped(table, history))}
    skipped = {written(id): reason for id, reason in why.items()}
    here, there = ({n: t for n, t in each.items() if n not in why} for each in (live, backup))
    feature = (database.schema_, database.table) if database else None
    return Matched(
        tuple(
            Pair(here[name], there[name], _option_a(database, here[name]), columns)
            if database and name == feature
            else Pair(here[name], there[name])
            for name in sorted(here.keys() & there.keys())
        ),
        tuple(here[name] for name in sorted(here.keys() - there.keys())),
        tuple(there[name] for name in sorted(there.keys() - here.keys())),
        skipped,
    )


def _why_skipped(table: Table, history: Collection[Name]) -> str:
    """Return why the rows of a table are neither compared nor applied, "" if they are."""
    if table.extension:
        return f"belongs to the extension {table.extension}"
    if table.foreign:
        return "its rows are elsewhere"
    if table.id in history:
        return "the history of migrations belongs to the schema, so it stays as the backup has it"
    return ""


def _option_a(database: Database, live: Table) -> Backfill | None:
    """Return the backfill by its terms alone, without any run's earlier decisions."""
    spec = database.backfill_
    if spec is None:
        return None
    cleared = "[]" if spec.cleared == "from_backup" else spec.cleared
    edited = "keep" if spec.edited == "list" else spec.edited
    alone = spec.model_copy(update={"cleared": cleared, "edited": edited})
    types = {column.name: column.cast for column in live.columns}
    return Backfill(database.model_copy(update={"backfill": alone}), "", types=ColumnTypes(types, types))
