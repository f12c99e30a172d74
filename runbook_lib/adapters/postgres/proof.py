"""Proof that a change to one column of chosen rows changed nothing else.

*Stopped*, while nobody else writes: row hashes of all columns that the change does not write, summed up in buckets (count,
bit_xor and sum of hash_record_extended over the rows that a key hashes to), are equal before and after; and no row was
written since by a transaction that is not this run's. *Live*: no row outside the change carries a transaction of this run's.
"""

from collections.abc import Sequence

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.clearing.records import Records
from runbook_lib.adapters.postgres.connection import Connection, exists, one
from runbook_lib.adapters.postgres.parallel import in_parallel

BUCKETS = 1024
SHOWN = 20  # rows that a line names
HASHED = "SET LOCAL enable_sort = off"  # no sorting by bucket


class Proof:
    """The fingerprints of one run over the table that its backfill rollback changes.

    `aside` names the columns that a swap puts beside the plan's; without them the change is one in place.
    """

    def __init__(self, backfill: Backfill, aside: Sequence[str] = ()) -> None:
        self.backfill = backfill
        self.table = backfill.own("proof")
        self.records = Records(backfill)
        self.in_place = not aside
        spec = backfill.database.backfill
        self.written = {spec.column, spec.touch, *aside}

    def record(self, connection: Connection) -> None:
        """Keep the fingerprints of the table as it is now, unless this run has them already. Changes the target."""
        with in_parallel(connection):
            if exists(connection, self.table):
                return
            connection.execute(HASHED)
            connection.execute(
                sql.SQL("CREATE TABLE {} AS SELECT *, pg_current_xact_id()::xid AS since FROM ({}) f").format(
                    self.table, self._fingerprints(connection)
                )
            )

    def differences(self, connection: Connection) -> list[str] | None:
        """Where the table now differs from the fingerprints kept, with the rows to look at, a line each.

        None where this run kept none. Read-only.
        """
        if not exists(connection, self.table):
            return None
        with in_parallel(connection):
            connection.execute(HASHED)
            rows = connection.execute(
                sql.SQL("""SELECT * FROM (
                    SELECT bucket, (b.n, b.x, b.s) IS DISTINCT FROM (a.n, a.x, a.s) AS differs, a.fresh > 0 AS fresh
                    FROM (SELECT bucket, n, x, s FROM {kept}) b FULL JOIN ({now}) a USING (bucket)) c
                WHERE differs OR fresh ORDER BY bucket""").format(
                    kept=self.table, now=self._fingerprints(connection, self._perhaps_fresh())
                )
            ).fetchall()
            lines = [
                f"columns not written: bucket {row['bucket']} differs; written since: "
                + (self._others(connection, self._in_bucket(row["bucket"])) or "no row (one was deleted)")
                for row in rows
                if row["differs"]
            ]
            fresh = any(row["fresh"] for row in rows)
            if fresh and (others := self._others(connection, sql.SQL("TRUE"))):
                lines.append(f"rows that this run did not write were written since: {others}")
        return lines + self.strays(connection)

    def strays(self, connection: Connection) -> list[str]:
        """The rows changed in place by a transaction of this run's that have no undo row, as a line. Read-only."""
        if not self.in_place or not exists(connection, self.backfill.undo):
            return []
        template = sql.SQL("""SELECT t.{key}::text AS key FROM {table} t
        WHERE {ours} AND NOT EXISTS (SELECT FROM {undo} u WHERE u.key = t.{key}) ORDER BY t.{key} LIMIT {shown}""")
        query = template.format(
            key=self.backfill.key,
            table=self.backfill.table,
            ours=self._ours(),
            undo=self.backfill.undo,
            shown=sql.Literal(SHOWN),
        )
        with in_parallel(connection):
            found = connection.execute(query).fetchall()
        return [f"written by this run without an undo row: {', '.join(row['key'] for row in found)}"] if found else []

    def rows(self, connection: Connection) -> int:
        """How many rows the kept fingerprints cover. Read-only."""
        query = sql.SQL("SELECT coalesce(sum(n), 0)::bigint AS n FROM {}")
        return int(one(connection, query.format(self.table))["n"])

    def forget(self, connection: Connection) -> None:
        """Drop the fingerprints kept. Changes the target."""
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.table))

    def _fingerprints(self, connection: Connection, fresh: sql.Composable | None = None) -> sql.Composed:
        columns = connection.execute(
            """SELECT attname AS name, atttypid::regtype::text AS type FROM pg_attribute
               WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum""",
            [self.backfill.table.as_string(connection)],
        )
        fields = [
            sql.SQL("t.{}::text" if row["type"] == "json" else "t.{}").format(sql.Identifier(row["name"]))
            for row in columns
            if row["name"] not in self.written
        ]
        return sql.SQL("""SELECT bucket, count(*) AS n, bit_xor(h) AS x, sum(h) AS s,
                count(*) FILTER (WHERE fresh) AS fresh FROM (
            SELECT {bucket} AS bucket, hash_record_extended(ROW({fields}), 0) AS h, {fresh} AS fresh
            FROM {table} t OFFSET 0) r
            GROUP BY bucket""").format(
            bucket=self._bucket(),
            fields=sql.SQL(", ").join(fields),
            fresh=fresh or sql.SQL("FALSE"),
            table=self.backfill.table,
        )

    def _perhaps_fresh(self) -> sql.Composed:
        """Whether a row was written since by others, for one scan on all cores: `age` would hold that to a single one.

        It is true of every such row, and may be of one frozen long ago.
        """
        since = sql.SQL("(SELECT since::text::bigint FROM {} LIMIT 1)").format(self.table)
        return sql.SQL("((t.xmin::text::bigint - {}) & 4294967295) BETWEEN 1 AND 2147483647 AND NOT {}").format(
            since, self._ours()
        )

    def _bucket(self) -> sql.Composed:
        return sql.SQL("(hash_record_extended(ROW(t.{}), 0) & {})").format(self.backfill.key, sql.Literal(BUCKETS - 1))

    def _in_bucket(self, bucket: int) -> sql.Composed:
        return sql.SQL("{} = {}").format(self._bucket(), sql.Literal(bucket))

    def _ours(self) -> sql.Composed:
        return sql.SQL("t.xmin IN (SELECT xid FROM {})").format(self.records.writes)

    def _others(self, connection: Connection, among: sql.Composable) -> str:
        """Rows that were written since the fingerprints were made, by transactions that are not this run's. Read-only."""
        rows = connection.execute(
            sql.SQL("""SELECT t.{key}::text AS key FROM {table} t
            WHERE {among} AND age(t.xmin) < (SELECT age(since) FROM {kept} LIMIT 1) AND NOT {ours}
            ORDER BY t.{key} LIMIT {shown}""").format(
                key=self.backfill.key,
                table=self.backfill.table,
                among=among,
                kept=self.table,
                ours=self._ours(),
                shown=sql.Literal(SHOWN),
            )
        )
        return ", ".join(row["key"] for row in rows)
