"""Rows staged in the runbook's schema of the database they are for, with the result for each row."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from psycopg import sql
from psycopg.types.json import Jsonb

from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, identify_rows, make_own_schema
from runbook_lib.postgres.connection import exists
from runbook_lib.postgres.restore.difference_kinds import Kind
from runbook_lib.postgres.restore.shape import Column, ForeignKey, Name, Table, written
from runbook_lib.postgres.restore.stream import pin

# A staged row has its number, its kind, the round in which it is tried, the reason if it was not applied, and the hash of
# the row it replaces, if that may have been written since.
OWN_COLUMNS = """runbook_row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, runbook_kind text NOT NULL,
runbook_round smallint NOT NULL DEFAULT 1, runbook_reason text, runbook_was bigint"""
STAGED_AS = "text"  # for a value whose type may differ, or hold other values, at the destination


@dataclass(frozen=True)
class StagedRows:
    """The staged rows of one table: their store, their destination, and their columns."""

    schema: str
    name: str
    store: str  # the table in the runbook's schema that stores them
    key: tuple[str, ...]
    columns: Mapping[str, str]  # name -> the type it is staged as
    user: tuple[str, ...]  # identifies the state of a changed row
    touch: tuple[str, ...]
    feature: tuple[str, ...]
    withheld: tuple[str, ...] = ()  # columns whose values are not staged

    @property
    def id(self) -> Name:
        """Schema and table of the destination."""
        return self.schema, self.name

    @property
    def table(self) -> str:
        """The table of the destination, for display."""
        return written(self.id)

    @property
    def store_id(self) -> sql.Identifier:
        """The table that stores the rows."""
        return sql.Identifier(OWN_SCHEMA, self.store)

    @property
    def key_text(self) -> sql.Composed:
        """The key of a staged row `c`, as text."""
        return sql.SQL("concat_ws(', ', {})").format(
            sql.SQL(", ").join(sql.SQL("c.{}::text").format(sql.Identifier(name)) for name in self.key)
        )

    def make(self, connection: Connection) -> None:
        """Create the empty table that stores the rows. Changes the target."""
        columns = [sql.SQL(", {} {}").format(sql.Identifier(n), sql.SQL(t)) for n, t in self.columns.items()]
        connection.execute(
            sql.SQL("CREATE TABLE {} ({}{})").format(self.store_id, sql.SQL(OWN_COLUMNS), sql.SQL("").join(columns))
        )
        connection.execute(identify_rows(self.store_id))

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Build the staged rows from the result of `as_json`."""
        values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in content.items()}
        return cls(**values)


def staged_as(source: Column, target: Column | None) -> str:
    """Return the type for staging a column: its own if it is built in and the same on both sides."""
    return source.cast if target and source.base and source.base == target.base else STAGED_AS


def recognised(columns: tuple[str, ...]) -> sql.Composable:
    """Return the hash of some columns of a row `t` by their text, the same on any server."""
    texts = [sql.SQL('t.{}::text COLLATE "C"').format(sql.Identifier(name)) for name in columns]
    return sql.SQL("hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join(texts)) if texts else sql.SQL("0::bigint")


class Progress:
    """A run's finished parts in a database, one row each, committed with the part; and the list of conflicts."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.table = sql.Identifier(OWN_SCHEMA, f"salvage_{run}")
        self.conflicts = sql.Identifier(OWN_SCHEMA, f"conflicts_{run}")

    def begin(self, connection: Connection) -> None:
        """Create the tables if they do not exist. Changes the target."""
        with connection.transaction():
            make_own_schema(connection)
            connection.execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {} (phase text, part text, content jsonb, PRIMARY KEY (phase, part))"
                ).format(self.table)
            )
            connection.execute(
                sql.SQL('CREATE TABLE IF NOT EXISTS {} ("table" text, kind text, key text, reason text)').format(
                    self.conflicts
                )
            )
            connection.execute(identify_rows(self.conflicts))

    def begun(self, connection: Connection) -> bool:
        """Whether this run has its tables there. Read-only."""
        return exists(connection, self.table)

    def done(self, connection: Connection, phase: str) -> dict[str, Any]:
        """Return the finished parts of a phase, and the result of each. Read-only."""
        query = sql.SQL("SELECT part, content FROM {} WHERE phase = %s ORDER BY part").format(self.table)
        return {row["part"]: row["content"] for row in connection.execute(query, [phase])}

    def note(self, connection: Connection, phase: str, part: str, content: Any, *, again: bool = False) -> None:
        """Record, in the part's own transaction, that it is finished, or finished again. Changes the target."""
        if again:
            connection.execute(sql.SQL("DELETE FROM {} WHERE phase = %s AND part = %s").format(self.table), [phase, part])
        connection.execute(sql.SQL("INSERT INTO {} VALUES (%s, %s, %s)").format(self.table), [phase, part, Jsonb(content)])

    def list(self, connection: Connection, staged: StagedRows, rows: sql.Composable, reason: str | None = None) -> int:
        """List staged rows that could not be applied, or only in part, and the reason. Changes the target."""
        return connection.execute(
            sql.SQL("INSERT INTO {} SELECT {}, c.runbook_kind, {}, {} FROM {} c WHERE {} ORDER BY c.runbook_row").format(
                self.conflicts,
                sql.Literal(staged.table),
                staged.key_text,
                sql.Literal(reason) if reason else sql.Identifier("c", "runbook_reason"),
                staged.store_id,
                rows,
            )
        ).rowcount

    def part(
        self, connection: Connection, phase: str, part: str, work: Callable[[], object], between: Callable[[str], None]
    ) -> None:
        """Do a part and record it in one transaction, unless it is finished; then call `between`. Changes the target."""
        if part in self.done(connection, phase):
            return
        with connection.transaction():
            pin(connection)
            self.note(connection, phase, part, work())
        between(f"{phase} {part}".strip())

    def drop(self, connection: Connection, stores: Sequence[sql.Composable], *, everything: bool = False) -> None:
        """Drop the tables that stage rows, with `everything` these tables too. Changes the target."""
        names = [*stores, *((self.table, self.conflicts) if everything else ())]
        if names:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.SQL(", ").join(names)))


AND, COMMA = sql.SQL(" AND "), sql.SQL(", ")


@dataclass(frozen=True)
class Obstacle:
    """Why staged rows `c` cannot be applied, and which; `circular` if that depends on other applied rows."""

    reason: str
    rows: sql.Composable
    circular: bool = False


@dataclass(frozen=True)
class MergeSql:
    """Staged rows and the present table they are for; `round` says which of them are tried."""

    staged: StagedRows
    table: Table
    round: int = 1

    @property
    def inserted(self) -> tuple[str, ...]:
        """The columns that a new row is given."""
        return tuple(c.name for c in self.table.columns if c.name in self.staged.columns and not c.generated)

    def updated(self, kind: Kind) -> tuple[str, ...]:
        """Return the columns that are changed in an existing row."""
        columns = self.staged.feature if kind == Kind.FEATURE else (*self.staged.user, *self.staged.touch)
        return tuple(
            c for c in self.inserted if c in columns and c not in self.staged.key and not self.table.column(c).always
        )

    def waiting(self, kind: Kind, low: int | None = None, high: int | None = None, alias: str = "c") -> sql.Composed:
        """Return the condition of the staged rows to apply, some or all."""
        row = sql.Identifier(alias, "runbook_row")
        conditions = [
            sql.SQL("{} = {}").format(sql.Identifier(alias, "runbook_kind"), sql.Literal(str(kind))),
            sql.SQL("{} = {}").format(sql.Identifier(alias, "runbook_round"), sql.Literal(self.round)),
            sql.SQL("{} IS NULL").format(sql.Identifier(alias, "runbook_reason")),
        ]
        conditions += [sql.SQL("{} >= {}").format(row, sql.Literal(low))] if low is not None else []
        conditions += [sql.SQL("{} <= {}").format(row, sql.Literal(high))] if high is not None else []
        return AND.join(conditions)

    def insert(self, rows: sql.Composable, emptied: Collection[str] = ()) -> sql.Composed:
        """Insert staged rows, with some columns left empty."""
        columns = [name for name in self.inserted if name not in emptied]
        return sql.SQL(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} c WHERE {} ORDER BY c.runbook_row"
        ).format(
            sql.Identifier(*self.table.id),
            COMMA.join(map(sql.Identifier, columns)),
            COMMA.join(map(self.value, columns)),
            self.staged.store_id,
            rows,
        )

    def update(self, rows: sql.Composable, columns: Sequence[str]) -> sql.Composed:
        """Set some columns of existing rows to the staged values."""
        return sql.SQL("UPDATE {} t SET {} FROM {} c WHERE {} AND {}").format(
            self.table.rows,
            COMMA.join(sql.SQL("{} = {}").format(sql.Identifier(name), self.value(name)) for name in columns),
            self.staged.store_id,
            self.same_row(),
            rows,
        )

    def delete(self, rows: sql.Composable) -> sql.Composed:
        """Delete rows that are staged as deleted."""
        return sql.SQL("DELETE FROM {} t USING {} c WHERE {} AND {}").format(
            self.table.rows, self.staged.store_id, self.same_row(), rows
        )

    def empty(self, rows: sql.Composable, columns: Sequence[str]) -> sql.Composed:
        """Empty some columns of existing rows."""
        nothing = COMMA.join(sql.SQL("{} = NULL").format(sql.Identifier(name)) for name in columns)
        return sql.SQL("UPDATE {} t SET {} FROM {} c WHERE {} AND {}").format(
            self.table.rows, nothing, self.staged.store_id, self.same_row(), rows
        )

    def value(self, name: str, alias: str = "c") -> sql.Composable:
        """Return a staged value in the type of its column."""
        column, value = self.table.column(name), sql.Identifier(alias, name)
        if self.staged.columns[name] == column.cast:
            return value
        return sql.SQL("{}::text::{}").format(value, sql.SQL(column.cast))

    def same_row(self, row: str = "c", there: str = "t") -> sql.Composed:
        """Return the condition that a staged row and an existing one have the same key."""
        return AND.join(
            sql.SQL("{} = {}").format(sql.Identifier(there, name), self.value(name, row)) for name in self.staged.key
        )

    def obstacles(self, kind: Kind, keys: Iterable[ForeignKey], circle: Mapping[Name, "MergeSql"]) -> list[Obstacle]:
        """Return everything known to block rows of a kind; `circle` is what is applied together with them."""
        if missing := [name for name in self.staged.key if name not in self.table.names]:
            return [Obstacle(f"the table has no {', '.join(missing)}", sql.SQL("TRUE"))]
        if kind == Kind.NEW:
            return [*self._required(), *self._taken(), *self._unreferred(self.inserted, keys, circle)]
        if kind == Kind.DELETED:
            return [*self._rewritten(kind), *self._referred(keys, circle)]
        return [*self._absent(kind), *self._rewritten(kind), *self._unreferred(self.updated(kind), keys, {})]

    def _required(self) -> list[Obstacle]:
        required = [c.name for c in self.table.columns if c.required and not c.generated and c.name not in self.inserted]
        return (
            [Obstacle(f"the table requires {', '.join(required)}, which the row lacks", sql.SQL("TRUE"))] if required else []
        )

    def _taken(self) -> list[Obstacle]:
        return [
            Obstacle(
                f"another row has its {', '.join(names)}",
                sql.SQL("EXISTS (SELECT FROM {} t WHERE {})").format(
                    sql.Identifier(*self.table.id),
                    AND.join(sql.SQL("t.{} = {}").format(sql.Identifier(name), self.value(name)) for name in names),
                ),
            )
            for names in self.table.unique
            if set(names) <= set(self.inserted)
        ]

    def _absent(self, kind: Kind) -> list[Obstacle]:
        if not self.updated(kind):
            return [Obstacle("the table has none of the columns that changed", sql.SQL("TRUE"))]
        there = sql.SQL("EXISTS (SELECT FROM {} t WHERE {})").format(self.table.rows, self.same_row())
        return [Obstacle("the row does not exist", sql.SQL("NOT {}").format(there))]

    def _rewritten(self, kind: Kind) -> list[Obstacle]:
        known = self.staged.feature if kind == Kind.FEATURE else self.staged.user
        if lost := [name for name in known if name not in self.table.names]:
            return [
                Obstacle(
                    f"the table has no {', '.join(lost)}, which shows whether the row was changed since",
                    sql.SQL("c.runbook_was IS NOT NULL"),
                )
            ]
        return [
            Obstacle(
                "the row was changed since",
                sql.SQL("c.runbook_was <> (SELECT {} FROM {} t WHERE {})").format(
                    recognised(known), self.table.rows, self.same_row()
                ),
            )
        ]

    def _unreferred(
        self, given: Collection[str], keys: Iterable[ForeignKey], circle: Mapping[Name, "MergeSql"]
    ) -> list[Obstacle]:
        found = []
        for key in keys:
            if key.table != self.table.id or not set(key.columns) & set(given) or not set(key.columns) <= set(self.inserted):
                continue
            pairs = list(zip(key.target_columns, key.columns, strict=True))
            targets = [
                sql.SQL("SELECT FROM {} p WHERE {}").format(
                    sql.Identifier(*key.target),
                    AND.join(sql.SQL("p.{} = {}").format(sql.Identifier(there), self.value(here)) for there, here in pairs),
                )
            ]
            if (other := circle.get(key.target)) and set(key.target_columns) <= set(other.inserted):
                targets.append(
                    sql.SQL("SELECT FROM {} d WHERE {} AND {}").format(
                        other.staged.store_id,
                        other.waiting(Kind.NEW, alias="d"),
                        AND.join(sql.SQL("{} = {}").format(other.value(t, "d"), self.value(h)) for t, h in pairs),
                    )
                )
            filled = [sql.SQL("c.{} IS NOT NULL").format(sql.Identifier(name)) for name in key.columns]
            absent = [sql.SQL("NOT EXISTS ({})").format(target) for target in targets]
            found.append(
                Obstacle(
                    f"{key.name}: the row of {written(key.target)} that it refers to does not exist",
                    AND.join([*filled, *absent]),
                    circular=len(targets) > 1,
                )
            )
        return found

    def _referred(self, keys: Iterable[ForeignKey], circle: Mapping[Name, "MergeSql"]) -> list[Obstacle]:
        found = []
        for key in keys:
            if key.target != self.table.id or key.empties:
                continue
            refers = AND.join(
                sql.SQL("r.{} = t.{}").format(sql.Identifier(h), sql.Identifier(t))
                for h, t in zip(key.columns, key.target_columns, strict=True)
            )
            stays: sql.Composable = sql.SQL("TRUE")
            if other := circle.get(key.table):
                stays = sql.SQL("NOT EXISTS (SELECT FROM {} d WHERE {} AND {})").format(
                    other.staged.store_id, other.waiting(Kind.DELETED, alias="d"), other.same_row("d", "r")
                )
            found.append(
                Obstacle(
                    f"{key.name}: a row of {written(key.table)} still refers to it",
                    sql.SQL("EXISTS (SELECT FROM {} t JOIN {} r ON {} WHERE {} AND {})").format(
                        self.table.rows, sql.Identifier(*key.table), refers, self.same_row(), stays
                    ),
                    circular=key.table in circle,
                )
            )
        return found
