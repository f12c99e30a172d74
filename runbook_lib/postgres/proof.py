"""Proof that a change to one column of chosen rows changed nothing else.

*Stopped*, while nobody else writes: the number of rows, and the sum of a 64-bit hash of each, are equal before and after. In
the hash are the row's key, all columns that the change does not write, and of the one that is cleared what it is to hold
afterwards. Where a change touches one more column, no row was written since by a transaction that is not this run's.
*Live*: no row outside the change carries a transaction of this run's.
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
    """The fingerprints of one run over the table that its backfill rollback changes.

    `shadow` names the columns that a swap adds next to the plan's; without them the change is one in place.
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
        """Keep the fingerprints of the table as it is now, unless this run has them already. Changes the target."""
        with in_parallel(connection):
            if exists(connection, self.table):
                return
            pin(connection, local=True)
            with self.backfill.expected(connection) as (value, joined):
                made = one(connection, self._fingerprints(connection, value, joined=joined))
            # A statement of its own, since the server scans with one core where a transaction's number is asked for.
            self._keep(connection, sql.SQL("SELECT {} AS n, {} AS s").format(*map(sql.Literal, (made["n"], made["s"]))))

    def record_at_once(self, connection: Connection) -> None:
        """Do the same in the caller's transaction, by one statement that makes and keeps them. Changes the target."""
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
        """How the table now differs from the fingerprints kept, with the rows to look at, a line each.

        None where this run kept none, or those of another decision on what is cleared. Read-only.
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
        """The rows changed in place by a transaction of this run's that have no undo row, as a line. Read-only."""
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
        """How many rows the kept fingerprints cover. Read-only."""
        query = sql.SQL("SELECT n FROM {}")
        return int(one(connection, query.format(self.table))["n"])

    def fewer(self, connection: Connection) -> bool:
        """Whether the table has fewer rows now than the kept fingerprints cover. Read-only."""
        query = sql.SQL("SELECT (SELECT count(*) FROM {}) < n AS it FROM {}").format(self.backfill.table, self.table)
        return bool(one(connection, query)["it"])

    def forget(self, connection: Connection) -> None:
        """Drop the fingerprints kept. Changes the target."""
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.table))

    def _fingerprints(
        self, connection: Connection, value: sql.Composable, *counted: sql.Composable, joined: sql.Composable = NONE
    ) -> sql.Composed:
        """The number of rows, the sum of their hashes with `value` in them, and what else is `counted`, as a query."""
        hashed = row_hash(connection, self.backfill.table, self.written, last=sql.SQL("({})").format(value))
        columns = [sql.SQL("count(*) AS n"), sql.SQL("sum({}) AS s").format(hashed), *counted]
        return sql.SQL("SELECT {} FROM {} t{}").format(sql.SQL(", ").join(columns), self.backfill.table, joined)

    def _written(self, connection: Connection) -> list[sql.Composable]:
        """How many rows were written since, by anybody, and the keys of this run's own as a sum of hashes, as columns."""
        since = written_since(one(connection, sql.SQL("SELECT since::text::bigint AS it FROM {}").format(self.table))["it"])
        key = _KEY_HASH.format(sql.Identifier("t"), self.backfill.key)
        return [
            sql.SQL("count(*) FILTER (WHERE {}) AS since").format(since),
            sql.SQL("sum({}) FILTER (WHERE {} AND {}) AS ours").format(key, since, self._ours()),
        ]

    def _undoable(self, connection: Connection) -> dict[str, Any]:
        """How many rows have an undo row, and their keys as such a sum."""
        if not exists(connection, self.records.bundles):
            return {"n": 0, "s": None}
        query = sql.SQL("SELECT count(*) AS n, sum({}) AS s FROM {} b, unnest(b.key) u(key)")
        return one(
            connection, query.format(_KEY_HASH.format(sql.Identifier("u"), sql.Identifier("key")), self.records.bundles)
        )

    def _meant(self) -> sql.Literal:
        """What was decided on what is cleared, and what is left then; a change of that makes fingerprints useless."""
        return sql.Literal(self.backfill.decided)

    def _kept(self, connection: Connection) -> bool:
        if not exists(connection, self.table):
            return False
        query = sql.SQL("SELECT meant = {} AS it FROM {}").format(self._meant(), self.table)
        return bool(one(connection, query)["it"])

    def _ours(self) -> sql.Composed:
        return sql.SQL("t.xmin IN (SELECT xid FROM {})").format(self.records.writes)

    def _others(self, connection: Connection) -> Named:
        """Rows that were written since the fingerprints were made, by transactions that are not this run's. Read-only."""
        query = sql.SQL("""SELECT t.{key} AS key FROM {table} t
        WHERE age(t.xmin) < (SELECT age(since) FROM {kept} LIMIT 1) AND NOT {ours}""")
        return named(
            connection,
            query.format(key=self.backfill.key, table=self.backfill.table, kept=self.table, ours=self._ours()),
        )


def written_since(number: int) -> sql.Composable:
    """Whether a row `t` was written by that transaction or a later one, as a term. Pure.

    All cores may compute it, unlike `age`. It is true of each such row, and may be of one frozen long ago. Numbers of
    transactions go round: half of them are later.
    """
    beyond = (number + 2**31) % 2**32
    first, last = (sql.Literal(each.to_bytes(4, "big")) for each in (number, beyond))
    both = sql.SQL("AND" if number < beyond else "OR")
    return sql.SQL("(xidsend(t.xmin) >= {} {} xidsend(t.xmin) < {})").format(first, both, last)


def _why_none(gone: int) -> str:
    if gone > 0:
        return f"there are {gone} fewer than before"
    return "this run wrote another value than it should"
