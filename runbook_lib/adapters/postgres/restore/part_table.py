"""A table that is not there any more, brought back whole from a dump."""

from collections.abc import Mapping
from dataclasses import replace

from psycopg import sql

from runbook_lib.adapters.postgres.catalog import make_own_schema
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import briefly
from runbook_lib.adapters.postgres.restore.fetch import aside, lacking, rows_in
from runbook_lib.adapters.postgres.restore.look import DumpedKey
from runbook_lib.adapters.postgres.restore.part import FINISHED, Count, Part
from runbook_lib.adapters.postgres.restore.part_keys import Keys, keys_of
from runbook_lib.adapters.postgres.restore.shape import tables
from runbook_lib.adapters.postgres.restore.side import TIMEOUT
from runbook_lib.errors import PreconditionError


class TablePart(Part):
    """A table with rows, indexes, constraints and triggers, and the foreign keys of other tables that point to it.

    In place of undo rows it keeps what all its rows came to, so that it is dropped again only as it was brought back.
    """

    def count(self) -> Count:
        """How many rows it would have; the live database is only read."""
        with self.postgres.connect() as live:
            if self.table in tables(live):
                raise self._there()
            without = self._keys.impossible(live)
        return self._counted(rows_in(self.source.tools, self.source.dump, self.table), without)

    def take(self) -> Count:
        """Bring it back, or finish that. Changes the target.

        Raises:
            PreconditionError: The table is there, and not by this run.
            AdapterError: A row points to one that is not there any more; that foreign key holds for new rows alone.
        """
        with self.postgres.connect() as live:
            is_there = self.table in tables(live)
            if is_there and not self.begun(live):
                raise self._there()
        if not is_there:
            self._restore()
        self._keys.make(self.postgres.connect, self.source.waiting)
        with self.postgres.connect() as live, live.transaction():
            live.execute(sql.SQL("UPDATE {} SET rows = {}").format(self.undo, sql.Literal(self._sum(live))))
            self.mark(live, FINISHED)
            rows, without = _rows(live, self.table), self._keys.impossible(live)
        self.source.filled(rows)
        return self._counted(rows, without)

    def give_back(self) -> tuple[int, int]:
        """Drop it again, where its rows are as they were brought back. Changes the target.

        Raises:
            PreconditionError: They are not.
        """

        def work(live: Connection) -> tuple[int, int]:
            if not self.begun(live):
                return 0, 0
            rows = 0
            if self.table in tables(live):
                live.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(*self.table)))
                if self.finished(live) and self.altered(live):
                    raise PreconditionError(
                        f"Rows of {'.'.join(self.table)} were written since it was brought back.",
                        state="Nothing was changed.",
                        safe_next="Keep it; or take those rows out, and undo again.",
                    )
                rows = _rows(live, self.table)
                self._keys.drop_pointing(live)
                live.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(*self.table)))
            live.execute(sql.SQL("DROP TABLE {}").format(self.undo))
            return rows, 0

        return briefly(self.postgres.connect, work, self.source.waiting)

    def altered(self, live: Connection) -> int:
        """1 where its rows are not as they were brought back, else 0. Read-only."""
        return int(one(live, sql.SQL("SELECT rows AS it FROM {}").format(self.undo))["it"] != self._sum(live))

    @property
    def _keys(self) -> Keys:
        return keys_of(self.source.dump, self.table)

    def _counted(self, rows: int, without: Mapping[DumpedKey, str]) -> Count:
        again = tuple(str(key) for key in self._keys.pointing if key not in without)
        return Count(rows, 0, 0, 0, keys=again, without=tuple(f"{key}: {reason}" for key, reason in without.items()))

    def _restore(self) -> None:
        dump = self.source.dump
        scratch = dump.path.with_name(f".{dump.path.name}.{self.postgres.run}.part")
        pattern = '"{}"."{}"'.format(*(part.replace('"', '""') for part in self.table))
        try:
            with aside(self.postgres, self.source.tools, dump, self.table) as source:
                self.source.tools.dump_part(scratch, TIMEOUT, f"--table={pattern}", database=source)
            with self.postgres.connect() as live, live.transaction():
                make_own_schema(live)
                live.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.undo))
                live.execute(sql.SQL("CREATE TABLE {} AS SELECT NULL::text AS rows").format(self.undo))
            tools = replace(self.source.tools, hold=None)  # standing still, it would hold a transaction of the live database
            tools.restore(scratch, self.postgres.database, TIMEOUT, "--single-transaction")
        finally:
            scratch.unlink(missing_ok=True)

    def _sum(self, live: Connection) -> str:
        query = sql.SQL("SELECT concat(count(*), ' ', sum(hashtextextended(t::text, 0))) AS it FROM {} t")
        return str(one(live, query.format(sql.Identifier(*self.table)))["it"])

    def _there(self) -> PreconditionError:
        return lacking(f"The table {'.'.join(self.table)} is there already.", "Restore its rows, or one column of it.")


def _rows(connection: Connection, table: tuple[str, str]) -> int:
    return int(one(connection, sql.SQL("SELECT count(*) AS n FROM {}").format(sql.Identifier(*table)))["n"])
