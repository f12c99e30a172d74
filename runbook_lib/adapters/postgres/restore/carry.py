"""Carries staged rows into the tables of a database, in the order of their references, in parts that each commit whole."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.restore.binding import Binding
from runbook_lib.adapters.postgres.restore.cargo import Cargo, Progress
from runbook_lib.adapters.postgres.restore.classes import Kind
from runbook_lib.adapters.postgres.restore.moves import Move
from runbook_lib.adapters.postgres.restore.order import components
from runbook_lib.adapters.postgres.restore.shape import Name, foreign_keys, tables
from runbook_lib.adapters.postgres.restore.stream import pin

ROUNDS = (1, 2)  # what was in a row's way in the first may be gone in the second
PHASES = (Kind.DELETED, Kind.NEW, Kind.CHANGED, Kind.FEATURE)
STARTED, AGAIN, LISTED = "started", "again", "listed"

Between = Callable[[str], None]

_TRIGGERS = """
SELECT tgrelid::regclass::text AS table, quote_ident(tgname) AS name, tgenabled = 'A' AS always
FROM pg_trigger
WHERE NOT tgisinternal AND tgparentid = 0 AND tgenabled IN ('O', 'A')
  AND tgrelid IN (SELECT to_regclass(%(table)s) UNION SELECT relid FROM pg_partition_tree(to_regclass(%(table)s)))
ORDER BY 1, 2
"""


class Carriage:
    """The staged rows of some tables on their way into one database; what is done is not done again."""

    def __init__(self, connection: Connection, cargoes: Sequence[Cargo], progress: Progress) -> None:
        with connection.transaction():
            pin(connection)
            self.tables = tables(connection)
            self.keys = foreign_keys(connection)
        self.connection = connection
        self.progress = progress
        self.cargoes = {cargo.id: cargo for cargo in cargoes}
        self.components = components([name for name in self.cargoes if name in self.tables], self.keys)

    def carry(self, kinds: Sequence[Kind], between: Between) -> None:
        """Carry the rows of some kinds, and list those that cannot be carried. Changes the target."""
        self._part(STARTED, "", lambda: self._start(kinds), between)
        for number in ROUNDS:
            if number > 1:
                self._part(AGAIN, "", self._try_again, between)
            for kind in (kind for kind in PHASES if kind in kinds):
                for component in self.components if kind != Kind.DELETED else self.components[::-1]:
                    self._component(number, kind, component, between)
        self._part(LISTED, "", self._list, between)

    def carried(self) -> dict[str, dict[Kind, int]]:
        """How many rows of each kind were carried into each table so far. Read-only."""
        found: dict[str, dict[Kind, int]] = {}
        for number in ROUNDS:
            for kind in PHASES:
                for content in self.progress.done(self.connection, f"{number} {kind}").values():
                    for table, rows in ((table, rows) for table, rows in content.items() if rows):
                        counts = found.setdefault(table, {})
                        counts[kind] = counts.get(kind, 0) + rows
        return found

    def finished_kinds(self) -> tuple[Kind, ...] | None:
        """The kinds of rows that were carried; None while that is under way. Read-only."""
        started = self.progress.done(self.connection, STARTED)
        if started and not self.progress.done(self.connection, LISTED):
            return None
        return tuple(map(Kind, started.get("", ())))

    def bindings(self) -> list[Binding]:
        """The staged rows of each table that is there."""
        return [Binding(cargo, self.tables[name]) for name, cargo in self.cargoes.items() if name in self.tables]

    def left_out(self) -> dict[str, tuple[str, ...]]:
        """What is staged of each table and has no place in it."""
        found = {
            b.cargo.table: (*(name for name in b.cargo.columns if name not in b.table.names), *b.cargo.withheld)
            for b in self.bindings()
        }
        return {table: names for table, names in found.items() if names}

    def _component(self, number: int, kind: Kind, component: tuple[Name, ...], between: Between) -> None:
        circle = {name: Binding(self.cargoes[name], self.tables[name], number) for name in component}

        def move() -> dict[str, int]:
            self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            with self._without_triggers(component):
                return Move(self.connection, self.progress, kind, self.keys, circle).carry()

        if any(self._waits(binding, kind) for binding in circle.values()):
            self._part(f"{number} {kind}", ", ".join(binding.cargo.table for binding in circle.values()), move, between)

    def _part(self, phase: str, part: str, work: Callable[[], object], between: Between) -> None:
        self.progress.part(self.connection, phase, part, work, between)

    def _start(self, kinds: Sequence[Kind]) -> list[str]:
        for name, cargo in self.cargoes.items():
            if name not in self.tables:
                query = sql.SQL("UPDATE {} SET runbook_reason = 'the table is not there'").format(cargo.lies_in)
                self.connection.execute(query)
        return list(kinds)

    def _try_again(self) -> dict[str, int]:
        query = sql.SQL("UPDATE {} SET runbook_round = 2, runbook_reason = NULL WHERE runbook_reason IS NOT NULL")
        return {b.cargo.table: self.connection.execute(query.format(b.cargo.lies_in)).rowcount for b in self.bindings()}

    def _list(self) -> dict[str, int]:
        failed = sql.SQL("c.runbook_reason IS NOT NULL")
        return {cargo.table: self.progress.list(self.connection, cargo, failed) for cargo in self.cargoes.values()}

    def _waits(self, binding: Binding, kind: Kind) -> bool:
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} c WHERE {}) AS it")
        return bool(one(self.connection, query.format(binding.cargo.lies_in, binding.waiting(kind)))["it"])

    @contextmanager
    def _without_triggers(self, component: Sequence[Name]) -> Iterator[None]:
        """Hold the tables' own triggers off: what they did when the rows were written is among the rows."""
        found: list[Mapping[str, object]] = []
        for name in component:
            table = sql.Identifier(*name).as_string(self.connection)
            found += self.connection.execute(_TRIGGERS, {"table": table}).fetchall()
        for trigger in found:
            self.connection.execute(f"ALTER TABLE {trigger['table']} DISABLE TRIGGER {trigger['name']}")
        yield
        for trigger in found:
            state = "ENABLE ALWAYS" if trigger["always"] else "ENABLE"
            self.connection.execute(f"ALTER TABLE {trigger['table']} {state} TRIGGER {trigger['name']}")
