"""Carries the staged rows of one kind into a table, or into tables that refer to one another, within a transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import errors, sql

from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.restore.attempt import ROW_ERRORS, each
from runbook_lib.adapters.postgres.restore.binding import AND, Binding
from runbook_lib.adapters.postgres.restore.cargo import Progress
from runbook_lib.adapters.postgres.restore.classes import Kind
from runbook_lib.adapters.postgres.restore.order import Order, order
from runbook_lib.adapters.postgres.restore.shape import ForeignKey, Name


@dataclass(frozen=True)
class Move:
    """Staged rows of one kind on their way into the tables of a circle; mostly that is one table."""

    connection: Connection
    progress: Progress
    kind: Kind
    keys: Sequence[ForeignKey]  # of the whole database
    circle: Mapping[Name, Binding]

    def carry(self) -> dict[str, int]:
        """Carry every row that can be, and say of the others why not; how many were carried into each table."""
        self._exclude()
        way = order(self.circle, self.keys, [key for key in self.keys if self._emptied(key)])
        if way is None:
            return self._fail_all("the tables refer to one another by references that cannot wait")
        try:
            with self.connection.transaction():
                for key in way.deferred:
                    name = sql.Identifier(key.table[0], key.name)
                    self.connection.execute(sql.SQL("SET CONSTRAINTS {} DEFERRED").format(name))
                carried = self._carry(way)
                self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except errors.IntegrityError as error:
            return self._fail_all(str(error).splitlines()[0])
        return {self.circle[name].cargo.table: number for name, number in carried.items()}

    def _carry(self, way: Order) -> dict[Name, int]:
        if self.kind == Kind.NEW:
            carried = {name: self._insert(self.circle[name], way) for name in way.tables}
            for name in way.tables:
                self._fill(self.circle[name], [key for key in way.emptied if key.table == name])
            return carried
        if self.kind == Kind.DELETED:
            for key in way.emptied:
                self._let_go(self.circle[key.table], self._emptied(key))
            return {name: self._delete(self.circle[name]) for name in reversed(way.tables)}
        return {name: self._update(self.circle[name], self.circle[name].updated(self.kind)) for name in way.tables}

    def _exclude(self) -> None:
        """Mark the rows that are known not to be carried; a row that refers to such a one may be another."""
        again = True
        while again:
            excluded, circular = 0, False
            for binding in self.circle.values():
                for obstacle in binding.obstacles(self.kind, self.keys, self.circle):
                    rows = AND.join([binding.waiting(self.kind), obstacle.rows])
                    circular |= obstacle.circular
                    try:
                        with self.connection.transaction():
                            excluded += self._fail(binding, rows, obstacle.reason)
                    except errors.DataError:
                        pass  # a staged value does not fit its column: the row is found when it is carried
            again = bool(excluded) and circular

    def _insert(self, binding: Binding, way: Order) -> int:
        """Insert new rows at once; should that fail, by halves, their references to the table itself left for later."""
        emptied = {name for key in way.emptied if key.table == binding.table.id for name in self._emptied(key)}
        try:
            with self.connection.transaction():
                return self.connection.execute(binding.insert(binding.waiting(self.kind), emptied)).rowcount
        except ROW_ERRORS:
            own = [key for key in self.keys if key.table == key.target == binding.table.id]
        left = emptied | {name for key in own for name in self._emptied(key)}
        count = each(
            self.connection,
            binding,
            self.kind,
            lambda rows: binding.insert(rows, left),
            lambda rows, reason: self._fail(binding, rows, reason),
        )
        self._fill(binding, own)
        return count

    def _fill(self, binding: Binding, keys: Sequence[ForeignKey]) -> None:
        """Fill in the references that were left empty; one that cannot be is listed, its row being carried."""
        names = [name for key in keys for name in self._emptied(key)]
        if names:
            filled = sql.SQL("num_nonnulls({}) > 0").format(sql.SQL(", ").join(sql.Identifier("c", name) for name in names))
            each(
                self.connection,
                binding,
                self.kind,
                lambda rows: binding.update(AND.join([rows, filled]), names),
                lambda rows, reason: self.progress.list(
                    self.connection, binding.cargo, AND.join([rows, filled]), f"carried without {', '.join(names)}: {reason}"
                ),
            )

    def _update(self, binding: Binding, columns: Sequence[str]) -> int:
        if not columns:
            return 0
        return each(
            self.connection,
            binding,
            self.kind,
            lambda rows: binding.update(rows, columns),
            lambda rows, reason: self._fail(binding, rows, reason),
        )

    def _delete(self, binding: Binding) -> int:
        return each(
            self.connection, binding, self.kind, binding.delete, lambda rows, reason: self._fail(binding, rows, reason)
        )

    def _let_go(self, binding: Binding, names: Sequence[str]) -> None:
        """Empty references of rows that are to be deleted, so that what they refer to can be deleted too."""
        self.connection.execute(binding.empty(binding.waiting(self.kind), names))

    def _emptied(self, key: ForeignKey) -> list[str]:
        """The columns of a reference that can be left empty for a while."""
        binding = self.circle.get(key.table)
        if binding is None:
            return []
        return [
            n
            for n in key.columns
            if n in binding.inserted and n not in binding.cargo.key and binding.table.column(n).nullable
        ]

    def _fail(self, binding: Binding, rows: sql.Composable, reason: str) -> int:
        query = sql.SQL("UPDATE {} c SET runbook_reason = {} WHERE {}")
        return self.connection.execute(query.format(binding.cargo.lies_in, sql.Literal(reason), rows)).rowcount

    def _fail_all(self, reason: str) -> dict[str, int]:
        for binding in self.circle.values():
            self._fail(binding, binding.waiting(self.kind), reason)
        return {}
