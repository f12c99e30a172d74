"""Apply staged rows to the tables of a database in foreign-key order, in parts that each commit as a whole."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import errors, sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.restore.difference_kinds import Kind
from runbook_lib.postgres.restore.shape import ForeignKey, Name, Order, components, foreign_keys, order, tables
from runbook_lib.postgres.restore.staged_rows import AND, MergeSql, Progress, StagedRows
from runbook_lib.postgres.restore.stream import pin

ROW_ERRORS = (errors.IntegrityError, errors.DataError, errors.InternalError, errors.RaiseException)
PATIENCE = 200  # rows of a statement that may fail one by one; after that the rest is not tried

Statement = Callable[[sql.Composable], sql.Composed]  # takes the condition of the rows it applies to
Failed = Callable[[sql.Composable, str], object]  # gets the condition of rows, and why they failed


def each(connection: Connection, merge: MergeSql, kind: Kind, statement: Statement, failed: Failed) -> int:
    """Run a statement for all waiting rows of a kind, without those for which it fails; return how many it changed.

    Changes the target.
    """
    refused = 0

    def run(low: int | None, high: int | None) -> int:
        nonlocal refused
        rows = merge.waiting(kind, low, high)
        try:
            with connection.transaction():
                return connection.execute(statement(rows)).rowcount
        except ROW_ERRORS as error:
            reason = str(error).splitlines()[0]
        span = one(
            connection,
            sql.SQL("""SELECT count(*) AS n, min(runbook_row) AS low, max(runbook_row) AS high,
            percentile_disc(0.5) WITHIN GROUP (ORDER BY runbook_row) AS middle FROM {} c WHERE {}""").format(
                merge.staged.store_id, rows
            ),
        )
        if span["n"] == 1 or refused >= PATIENCE:
            refused += 1
            failed(
                rows,
                reason if span["n"] == 1 else f"not tried, because {PATIENCE} rows of its table failed, the last: {reason}",
            )
            return 0
        return run(span["low"], span["middle"]) + run(span["middle"] + 1, span["high"])

    return run(None, None)


@dataclass(frozen=True)
class RowMove:
    """Staged rows of one kind, being applied to the tables of a reference cycle; mostly that is one table."""

    connection: Connection
    progress: Progress
    kind: Kind
    keys: Sequence[ForeignKey]  # of the whole database
    circle: Mapping[Name, MergeSql]

    def apply(self) -> dict[str, int]:
        """Apply every row that can be applied, note the reason for the others; return how many went into each table."""
        self._exclude()
        way = order(self.circle, self.keys, [key for key in self.keys if self._emptied(key)])
        if way is None:
            return self._fail_all("the tables refer to one another by references that cannot be deferred")
        try:
            with self.connection.transaction():
                for key in way.deferred:
                    name = sql.Identifier(key.table[0], key.name)
                    self.connection.execute(sql.SQL("SET CONSTRAINTS {} DEFERRED").format(name))
                applied = self._apply(way)
                self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except errors.IntegrityError as error:
            return self._fail_all(str(error).splitlines()[0])
        return {self.circle[name].staged.table: number for name, number in applied.items()}

    def _apply(self, way: Order) -> dict[Name, int]:
        if self.kind == Kind.NEW:
            applied = {name: self._insert(self.circle[name], way) for name in way.tables}
            for name in way.tables:
                self._fill(self.circle[name], [key for key in way.emptied if key.table == name])
            return applied
        if self.kind == Kind.DELETED:
            for key in way.emptied:
                self._empty_references(self.circle[key.table], self._emptied(key))
            return {name: self._delete(self.circle[name]) for name in reversed(way.tables)}
        return {name: self._update(self.circle[name], self.circle[name].updated(self.kind)) for name in way.tables}

    def _exclude(self) -> None:
        """Mark the rows known to fail; that may make rows that refer to them fail too."""
        again = True
        while again:
            excluded, circular = 0, False
            for merge in self.circle.values():
                for obstacle in merge.obstacles(self.kind, self.keys, self.circle):
                    rows = AND.join([merge.waiting(self.kind), obstacle.rows])
                    circular |= obstacle.circular
                    try:
                        with self.connection.transaction():
                            excluded += self._fail(merge, rows, obstacle.reason)
                    except errors.DataError:
                        pass  # a staged value does not fit its column: applying the row will show which
            again = bool(excluded) and circular

    def _insert(self, merge: MergeSql, way: Order) -> int:
        """Insert new rows in one statement; if it fails, by halves. References to the table itself are filled later."""
        emptied = {name for key in way.emptied if key.table == merge.table.id for name in self._emptied(key)}
        try:
            with self.connection.transaction():
                return self.connection.execute(merge.insert(merge.waiting(self.kind), emptied)).rowcount
        except ROW_ERRORS:
            own = [key for key in self.keys if key.table == key.target == merge.table.id]
        left = emptied | {name for key in own for name in self._emptied(key)}
        count = each(
            self.connection,
            merge,
            self.kind,
            lambda rows: merge.insert(rows, left),
            lambda rows, reason: self._fail(merge, rows, reason),
        )
        self._fill(merge, own)
        return count

    def _fill(self, merge: MergeSql, keys: Sequence[ForeignKey]) -> None:
        """Fill in the references that were left empty; a row whose reference fails stays applied, and is listed."""
        names = [name for key in keys for name in self._emptied(key)]
        if names:
            filled = sql.SQL("num_nonnulls({}) > 0").format(sql.SQL(", ").join(sql.Identifier("c", name) for name in names))
            each(
                self.connection,
                merge,
                self.kind,
                lambda rows: merge.update(AND.join([rows, filled]), names),
                lambda rows, reason: self.progress.list(
                    self.connection, merge.staged, AND.join([rows, filled]), f"applied without {', '.join(names)}: {reason}"
                ),
            )

    def _update(self, merge: MergeSql, columns: Sequence[str]) -> int:
        if not columns:
            return 0
        return each(
            self.connection,
            merge,
            self.kind,
            lambda rows: merge.update(rows, columns),
            lambda rows, reason: self._fail(merge, rows, reason),
        )

    def _delete(self, merge: MergeSql) -> int:
        return each(self.connection, merge, self.kind, merge.delete, lambda rows, reason: self._fail(merge, rows, reason))

    def _empty_references(self, merge: MergeSql, names: Sequence[str]) -> None:
        """Empty references in rows to be deleted, so that their targets can be deleted too."""
        self.connection.execute(merge.empty(merge.waiting(self.kind), names))

    def _emptied(self, key: ForeignKey) -> list[str]:
        """The columns of a reference that can be empty for a while."""
        merge = self.circle.get(key.table)
        if merge is None:
            return []
        return [
            n for n in key.columns if n in merge.inserted and n not in merge.staged.key and merge.table.column(n).nullable
        ]

    def _fail(self, merge: MergeSql, rows: sql.Composable, reason: str) -> int:
        query = sql.SQL("UPDATE {} c SET runbook_reason = {} WHERE {}")
        return self.connection.execute(query.format(merge.staged.store_id, sql.Literal(reason), rows)).rowcount

    def _fail_all(self, reason: str) -> dict[str, int]:
        for merge in self.circle.values():
            self._fail(merge, merge.waiting(self.kind), reason)
        return {}


ROUNDS = (1, 2)  # an obstacle of the first round may be gone in the second
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


class Applier:
    """Applies the staged rows of some tables to one database; finished parts are not repeated."""

    def __init__(self, connection: Connection, staged_tables: Sequence[StagedRows], progress: Progress) -> None:
        with connection.transaction():
            pin(connection)
            self.tables = tables(connection)
            self.keys = foreign_keys(connection)
        self.connection = connection
        self.progress = progress
        self.staged_tables = {staged.id: staged for staged in staged_tables}
        self.components = components([name for name in self.staged_tables if name in self.tables], self.keys)

    def apply(self, kinds: Sequence[Kind], between: Between) -> None:
        """Apply the rows of some kinds, and list those that cannot be applied. Changes the target."""
        self._part(STARTED, "", lambda: self._start(kinds), between)
        for number in ROUNDS:
            if number > 1:
                self._part(AGAIN, "", self._try_again, between)
            for kind in (kind for kind in PHASES if kind in kinds):
                for component in self.components if kind != Kind.DELETED else self.components[::-1]:
                    self._component(number, kind, component, between)
        self._part(LISTED, "", self._list, between)

    def applied(self) -> dict[str, dict[Kind, int]]:
        """Return how many rows of each kind were applied to each table so far. Read-only."""
        found: dict[str, dict[Kind, int]] = {}
        for number in ROUNDS:
            for kind in PHASES:
                for content in self.progress.done(self.connection, f"{number} {kind}").values():
                    for table, rows in ((table, rows) for table, rows in content.items() if rows):
                        counts = found.setdefault(table, {})
                        counts[kind] = counts.get(kind, 0) + rows
        return found

    def finished_kinds(self) -> tuple[Kind, ...] | None:
        """Return the kinds of rows that were applied; None while that is unfinished. Read-only."""
        started = self.progress.done(self.connection, STARTED)
        if started and not self.progress.done(self.connection, LISTED):
            return None
        return tuple(map(Kind, started.get("", ())))

    def merges(self) -> list[MergeSql]:
        """Return the staged rows of each existing table."""
        return [MergeSql(staged, self.tables[name]) for name, staged in self.staged_tables.items() if name in self.tables]

    def left_out(self) -> dict[str, tuple[str, ...]]:
        """Return the staged columns of each table that the table itself lacks."""
        found = {
            b.staged.table: (*(name for name in b.staged.columns if name not in b.table.names), *b.staged.withheld)
            for b in self.merges()
        }
        return {table: names for table, names in found.items() if names}

    def _component(self, number: int, kind: Kind, component: tuple[Name, ...], between: Between) -> None:
        circle = {name: MergeSql(self.staged_tables[name], self.tables[name], number) for name in component}

        def move() -> dict[str, int]:
            self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            with self._without_triggers(component):
                return RowMove(self.connection, self.progress, kind, self.keys, circle).apply()

        if any(self._waits(merge, kind) for merge in circle.values()):
            self._part(f"{number} {kind}", ", ".join(merge.staged.table for merge in circle.values()), move, between)

    def _part(self, phase: str, part: str, work: Callable[[], object], between: Between) -> None:
        self.progress.part(self.connection, phase, part, work, between)

    def _start(self, kinds: Sequence[Kind]) -> list[str]:
        for name, staged in self.staged_tables.items():
            if name not in self.tables:
                query = sql.SQL("UPDATE {} SET runbook_reason = 'the table does not exist'").format(staged.store_id)
                self.connection.execute(query)
        return list(kinds)

    def _try_again(self) -> dict[str, int]:
        query = sql.SQL("UPDATE {} SET runbook_round = 2, runbook_reason = NULL WHERE runbook_reason IS NOT NULL")
        return {b.staged.table: self.connection.execute(query.format(b.staged.store_id)).rowcount for b in self.merges()}

    def _list(self) -> dict[str, int]:
        failed = sql.SQL("c.runbook_reason IS NOT NULL")
        return {staged.table: self.progress.list(self.connection, staged, failed) for staged in self.staged_tables.values()}

    def _waits(self, merge: MergeSql, kind: Kind) -> bool:
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} c WHERE {}) AS it")
        return bool(one(self.connection, query.format(merge.staged.store_id, merge.waiting(kind)))["it"])

    @contextmanager
    def _without_triggers(self, component: Sequence[Name]) -> Iterator[None]:
        """Disable the tables' own triggers: their earlier effects are among the rows."""
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
