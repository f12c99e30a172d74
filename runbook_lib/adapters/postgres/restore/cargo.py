"""Rows on their way into a database: staged beside its tables, in the runbook's schema, with what became of each."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from psycopg import sql
from psycopg.types.json import Jsonb

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.adapters.postgres.connection import Connection, exists
from runbook_lib.adapters.postgres.restore.shape import Column, Name, written
from runbook_lib.adapters.postgres.restore.stream import pin

# Of a staged row: its number, its kind, the round in which it is tried, why it was not carried, and the hash of what it
# is to replace, where that may have been written since.
OWN_COLUMNS = """runbook_row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, runbook_kind text NOT NULL,
runbook_round smallint NOT NULL DEFAULT 1, runbook_reason text, runbook_was bigint"""
STAGED_AS = "text"  # a value whose type may be another one, or hold other values, where it goes


@dataclass(frozen=True)
class Cargo:
    """The staged rows of one table: where they lie, where they go, and what is in their columns."""

    schema: str
    name: str
    store: str  # the table in the runbook's schema that they lie in
    key: tuple[str, ...]
    columns: Mapping[str, str]  # name -> the type it is staged as
    user: tuple[str, ...]  # what a changed row is recognised by
    touch: tuple[str, ...]
    feature: tuple[str, ...]
    withheld: tuple[str, ...] = ()  # columns whose values are not staged

    @property
    def id(self) -> Name:
        """Schema and table that the rows go to."""
        return self.schema, self.name

    @property
    def table(self) -> str:
        """The table that the rows go to, as it is shown."""
        return written(self.id)

    @property
    def lies_in(self) -> sql.Identifier:
        """The table that the rows lie in."""
        return sql.Identifier(OWN_SCHEMA, self.store)

    @property
    def key_text(self) -> sql.Composed:
        """The key of a staged row `c`, as text."""
        return sql.SQL("concat_ws(', ', {})").format(
            sql.SQL(", ").join(sql.SQL("c.{}::text").format(sql.Identifier(name)) for name in self.key)
        )

    def make(self, connection: Connection) -> None:
        """Make the empty table that the rows lie in. Changes the target."""
        columns = [sql.SQL(", {} {}").format(sql.Identifier(n), sql.SQL(t)) for n, t in self.columns.items()]
        connection.execute(
            sql.SQL("CREATE TABLE {} ({}{})").format(self.lies_in, sql.SQL(OWN_COLUMNS), sql.SQL("").join(columns))
        )

    def as_json(self) -> dict[str, Any]:
        """Everything, as what JSON knows."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The cargo that `as_json` was made of."""
        values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in content.items()}
        return cls(**values)


def staged_as(source: Column, target: Column | None) -> str:
    """The type that a column is staged as: its own where it is built in and the same on both sides."""
    return source.cast if target and source.base and source.base == target.base else STAGED_AS


def recognised(columns: tuple[str, ...]) -> sql.Composable:
    """The hash of some columns of a row `t` by their text, the same wherever it is worked out."""
    texts = [sql.SQL('t.{}::text COLLATE "C"').format(sql.Identifier(name)) for name in columns]
    return sql.SQL("hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join(texts)) if texts else sql.SQL("0::bigint")


class Progress:
    """What a run has finished in a database, a row for each part, committed with the part; and the list of conflicts."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.table = sql.Identifier(OWN_SCHEMA, f"salvage_{run}")
        self.conflicts = sql.Identifier(OWN_SCHEMA, f"conflicts_{run}")

    def begin(self, connection: Connection) -> None:
        """Make the tables, if they are not there. Changes the target."""
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

    def begun(self, connection: Connection) -> bool:
        """Whether this run has its tables there. Read-only."""
        return exists(connection, self.table)

    def done(self, connection: Connection, phase: str) -> dict[str, Any]:
        """The parts of a phase that are finished, and what each left. Read-only."""
        query = sql.SQL("SELECT part, content FROM {} WHERE phase = %s ORDER BY part").format(self.table)
        return {row["part"]: row["content"] for row in connection.execute(query, [phase])}

    def note(self, connection: Connection, phase: str, part: str, content: Any, *, again: bool = False) -> None:
        """Say, in the transaction that did it, that a part is finished, or is so again. Changes the target."""
        if again:
            connection.execute(sql.SQL("DELETE FROM {} WHERE phase = %s AND part = %s").format(self.table), [phase, part])
        connection.execute(sql.SQL("INSERT INTO {} VALUES (%s, %s, %s)").format(self.table), [phase, part, Jsonb(content)])

    def list(self, connection: Connection, cargo: Cargo, rows: sql.Composable, reason: str | None = None) -> int:
        """List staged rows that could not be carried, or not in full, and the reason. Changes the target."""
        return connection.execute(
            sql.SQL("INSERT INTO {} SELECT {}, c.runbook_kind, {}, {} FROM {} c WHERE {} ORDER BY c.runbook_row").format(
                self.conflicts,
                sql.Literal(cargo.table),
                cargo.key_text,
                sql.Literal(reason) if reason else sql.Identifier("c", "runbook_reason"),
                cargo.lies_in,
                rows,
            )
        ).rowcount

    def part(
        self, connection: Connection, phase: str, part: str, work: Callable[[], object], between: Callable[[str], None]
    ) -> None:
        """Do a part and note it in one transaction, unless it is finished; then tell `between`. Changes the target."""
        if part in self.done(connection, phase):
            return
        with connection.transaction():
            pin(connection)
            self.note(connection, phase, part, work())
        between(f"{phase} {part}".strip())

    def drop(self, connection: Connection, stores: Sequence[sql.Composable], *, everything: bool = False) -> None:
        """Drop the tables that rows were staged in, and with everything these tables too. Changes the target."""
        names = [*stores, *((self.table, self.conflicts) if everything else ())]
        if names:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.SQL(", ").join(names)))
