"""Prove that a change to one column of chosen rows changed nothing else.

*Stopped*, while nobody else writes: the number of rows, and the sum of a 64-bit hash of each, are equal before and after.
The hash covers the row's key, all columns that the change does not write, and the expected value of the cleared column. If a
change touches one more column, no row was written since by a transaction outside this run.
*Live*: no row outside the change carries a transaction of this run.
"""

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.backfill_removal.guard import Named, Records, named
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.catalog import identify_rows
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.fingerprint import row_hash
from runbook_lib.postgres.text_settings import in_parallel, pin

NONE = sql.SQL("")
_KEY_HASH = sql.SQL('hashtextextended({}.{}::text COLLATE "C", 0)')


class Proof:
    """The fingerprints of one run for the table that its backfill rollback changes.

    `shadow` names the columns that a swap adds next to the plan's; without them the change is made in place.
    """

    def __init__(self, backfill: BackfillTerms, shadow: Sequence[str] = ()) -> None:
        self.backfill = backfill
        self.table = backfill.own("proof")
        self.records = Records(backfill)
        self.in_place = not shadow
        spec = backfill.spec
        self.written = {spec.name, spec.touch_column, *shadow}
        self.touches = spec.touch_column is not None

    def record(self, connection: Connection) -> None:
        """Record the fingerprints of the present table, unless this run has them already. Changes the target."""
        with in_parallel(connection):
            if exists(connection, self.table):
                return
            pin(connection, local=True)
            with self.backfill.expected(connection) as (value, joined):
                made = one(connection, self._fingerprints(connection, value, joined=joined))
            # A separate statement: the server scans with one core in one that asks for the transaction's number.
            self._keep(connection, sql.SQL("SELECT {} AS n, {} AS s").format(*map(sql.Literal, (made["n"], made["s"]))))

    def record_at_once(self, connection: Connection) -> None:
        """Do the same in the caller's transaction, with one statement. Changes the target."""
        pin(connection, local=True)
        with self.backfill.expected(connection) as (value, joined):
            self._keep(connection, self._fingerprints(connection, value, joined=joined))

    def _keep(self, connection: Connection, made: sql.Composable) -> None:
        keep = sql.SQL(
            """CREATE TABLE {} AS
            SELECT f.n::bigint AS n, f.s::numeric AS s, {} AS meant, pg_current_xact_id()::xid AS since FROM ({}) f"""
        )
        connection.execute(keep.format(self.table, self._meant(), made))
        connection.execute(identify_rows(self.table))

    def differences(self, connection: Connection) -> list[str] | None:
        """Return a line for each difference of the table from the recorded fingerprints, with the rows to look at.

        None if this run recorded none, or recorded them for another decision on what is cleared. Read-only.
        """
        if not self._kept(connection):
            return None
        with in_parallel(connection):
            pin(connection, local=True)
            query = sql.SQL(
                "SELECT a.*, b.n - a.n AS gone, (a.n, a.s) IS DISTINCT FROM (b.n, b.s) AS differs FROM ({}) a, {} b"
            )
            written = self._written(connection) if self.in_place or self.touches else []
            found = one(
                connection, query.format(self._fingerprints(connection, self.backfill.of("t"), *written), self.table)
            )
            undoable = self._undoable(connection)
            just_those = written and (found["since"], found["ours"]) == (undoable["n"], undoable["s"])
            others = self._others(connection) if found["differs"] or (self.touches and not just_those) else None
            lines = [f"rows that this run did not write were written since: {others}"] if others else []
            if found["differs"]:
                looked = others or f"no row ({_why_none(found['gone'])})"
                lines.append(f"the fingerprints differ; written since: {looked}")
            if not lines and self.in_place and found["ours"] == undoable["s"]:
                return []
        return lines + self.strays(connection)

    def strays(self, connection: Connection) -> list[str]:
        """Return a line with the rows that this run changed in place without an undo row. Read-only."""
        if not self.in_place or not exists(connection, self.backfill.undo):
            return []
        template = sql.SQL("""SELECT t.{key} AS key FROM {table} t
        WHERE {ours} AND NOT EXISTS (SELECT FROM {undo} u WHERE u.key = t.{key})""")
        query = template.format(
            key=self.backfill.key,
            table=self.backfill.table,
            ours=self._ours(),
            undo=self.backfill.undo,
        )
        with in_parallel(connection):
            found = named(connection, query)
        return [f"written by this run without an undo row: {found}"] if found else []

    def rows(self, connection: Connection) -> int:
        """Return how many rows the recorded fingerprints cover. Read-only."""
        query = sql.SQL("SELECT n FROM {}")
        return int(one(connection, query.format(self.table))["n"])

    def fewer(self, connection: Connection) -> bool:
        """Whether the table now has fewer rows than the recorded fingerprints cover. Read-only."""
        query = sql.SQL("SELECT (SELECT count(*) FROM {}) < n AS it FROM {}").format(self.backfill.table, self.table)
        return bool(one(connection, query)["it"])

    def forget(self, connection: Connection) -> None:
        """Drop the recorded fingerprints. Changes the target."""
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.table))

    def _fingerprints(
        self, connection: Connection, value: sql.Composable, *counted: sql.Composable, joined: sql.Composable = NONE
    ) -> sql.Composed:
        """Return a query for the number of rows, the sum of their hashes with `value` included, and `counted`."""
        hashed = row_hash(connection, self.backfill.table, self.written, last=sql.SQL("({})").format(value))
        columns = [sql.SQL("count(*) AS n"), sql.SQL("sum({}) AS s").format(hashed), *counted]
        return sql.SQL("SELECT {} FROM {} t{}").format(sql.SQL(", ").join(columns), self.backfill.table, joined)

    def _written(self, connection: Connection) -> list[sql.Composable]:
        """Return columns for the number of rows written since by anybody, and the hash sum of this run's keys."""
        since = written_since(one(connection, sql.SQL("SELECT since::text::bigint AS it FROM {}").format(self.table))["it"])
        key = _KEY_HASH.format(sql.Identifier("t"), self.backfill.key)
        return [
            sql.SQL("count(*) FILTER (WHERE {}) AS since").format(since),
            sql.SQL("sum({}) FILTER (WHERE {} AND {}) AS ours").format(key, since, self._ours()),
        ]

    def _undoable(self, connection: Connection) -> dict[str, Any]:
        """Return the number of rows with an undo row, and the hash sum of their keys."""
        if not exists(connection, self.records.bundles):
            return {"n": 0, "s": None}
        query = sql.SQL("SELECT count(*) AS n, sum({}) AS s FROM {} b, unnest(b.key) u(key)")
        return one(
            connection, query.format(_KEY_HASH.format(sql.Identifier("u"), sql.Identifier("key")), self.records.bundles)
        )

    def _meant(self) -> sql.Literal:
        """Return the decisions on what is cleared and its result; another decision makes the fingerprints useless."""
        return sql.Literal(self.backfill.decided)

    def _kept(self, connection: Connection) -> bool:
        if not exists(connection, self.table):
            return False
        query = sql.SQL("SELECT meant = {} AS it FROM {}").format(self._meant(), self.table)
        return bool(one(connection, query)["it"])

    def _ours(self) -> sql.Composed:
        return sql.SQL("t.xmin IN (SELECT xid FROM {})").format(self.records.writes)

    def _others(self, connection: Connection) -> Named:
        """Return rows written since the fingerprints by transactions of others. Read-only."""
        query = sql.SQL("""SELECT t.{key} AS key FROM {table} t
        WHERE age(t.xmin) < (SELECT age(since) FROM {kept} LIMIT 1) AND NOT {ours}""")
        return named(
            connection,
            query.format(key=self.backfill.key, table=self.backfill.table, kept=self.table, ours=self._ours()),
        )


def written_since(number: int) -> sql.Composable:
    """Return a term: whether a row `t` was written by that transaction or a later one. Pure.

    All cores may compute it, unlike `age`. It is true for each such row, and may be true for one frozen long ago.
    Transaction numbers wrap around: half of them are later.
    """
    beyond = (number + 2**31) % 2**32
    first, last = (sql.Literal(each.to_bytes(4, "big")) for each in (number, beyond))
    both = sql.SQL("AND" if number < beyond else "OR")
    return sql.SQL("(xidsend(t.xmin) >= {} {} xidsend(t.xmin) < {})").format(first, both, last)


def _why_none(gone: int) -> str:
    if gone > 0:
        return f"there are {gone} fewer than before"
    return "this run wrote another value than it should"
