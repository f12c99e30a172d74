"""The rows that a dump has and the live table has not, put back; what is there is left alone."""

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.clearing.guard import Expected, transaction
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.restore.fetch import listed
from runbook_lib.adapters.postgres.restore.part import FINISHED, Count, Part, compared, make_undo
from runbook_lib.adapters.postgres.restore.shape import Table


class RowsPart(Part):
    """The missing rows of a table, all in one statement: they may refer to one another, in whatever order."""

    def count(self) -> Count:
        """What putting them back would come to; the live database is only read."""
        with self.fetched(self._names, {}) as (live, table):
            kept, gone, newer = compared(live, self._terms(self.key(table), self._names(table)))
            return Count(gone, kept, 0, newer)

    def take(self) -> Count:
        """Put the rows back. Changes the target.

        Raises:
            AdapterError: A row points to one that is not there any more; none was put back.
        """
        with self.fetched(self._names, {}) as (live, table):
            terms = self._terms(self.key(table), self._names(table))
            expected: Expected = []
            with transaction(live, expected):
                make_undo(live, "SELECT {columns} FROM {table}", terms)
                added = live.execute(
                    sql.SQL("""WITH added AS (INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
                        SELECT {columns} FROM {fetched} ON CONFLICT DO NOTHING RETURNING {columns})
                    INSERT INTO {undo} SELECT * FROM added""").format(**terms)
                ).rowcount
                expected += [(terms["table"], (added, 0, 0)), (terms["undo"], (added, 0, 0))]
                self.mark(live, FINISHED)
            self.source.filled(added)
            return Count(added, *compared(live, terms))

    def give_back(self) -> tuple[int, int]:
        """Take the rows out again that were put back, where they are unchanged. Changes the target."""
        with self.postgres.connect() as live, live.transaction():
            if not self.begun(live):
                return 0, 0
            terms = self._of_undo(live)
            removed = live.execute(
                sql.SQL("""WITH gone AS (DELETE FROM {table} t USING {undo} r
                    WHERE {same} AND NOT {differs} RETURNING r.ctid AS place)
                DELETE FROM {undo} u USING gone WHERE u.ctid = gone.place""").format(**terms)
            ).rowcount
            left = self.undo_rows(live)
            if left:
                self.mark(live)
            else:
                live.execute(sql.SQL("DROP TABLE {undo}").format(**terms))
        return removed, left

    def altered(self, live: Connection) -> int:
        """How many rows that were put back are not as in the dump; a row that somebody wrote since is one. Read-only."""
        query = sql.SQL("SELECT count(*) AS n FROM {undo} r JOIN {table} t ON {same} WHERE {differs}")
        return int(one(live, query.format(**self._of_undo(live)))["n"])

    def _names(self, table: Table) -> list[str]:
        there = self.source.dump.columns.get(".".join(self.table), {})
        return [each.name for each in table.columns if each.name in there and not each.generated]

    def _of_undo(self, live: Connection) -> dict[str, Any]:
        query = "SELECT attname AS name FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
        names = [row["name"] for row in live.execute(query, [self.undo.as_string(live)])]
        return self._terms(self.key(self.live_table(live)), names)

    def _terms(self, key: Sequence[str], names: list[str]) -> dict[str, Any]:
        of_both = {"t": listed(names, "t"), "r": listed(names, "r")}
        differs = sql.SQL("ROW({t})::text IS DISTINCT FROM ROW({r})::text").format(**of_both)
        return {**self.terms(key), "columns": listed(names), "differs": sql.SQL("({})").format(differs)}
