"""Proof that a change to one column of chosen rows changed nothing else: row hashes, summed up in buckets, before and after.

A bucket holds count, bit_xor and sum of hash_record_extended over the rows that its key hashes to. Two sets of columns are
hashed: of every row all that the change does not write, and of each row outside the change all there is.
"""

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA
from runbook_lib.adapters.postgres.connection import Connection, one

BUCKETS = 1024


class Proof:
    """The fingerprints of one run over the table that its backfill rollback changes."""

    def __init__(self, backfill: Backfill, run: str) -> None:
        self.backfill = backfill
        self.table = sql.Identifier(OWN_SCHEMA, f"proof_{run}")

    def record(self, connection: Connection) -> None:
        """Keep the fingerprints of the table as it is now, unless this run has them already. Changes the target."""
        affected = self.backfill.affected
        with connection.transaction():
            if self._exists(connection):
                return
            connection.execute(
                sql.SQL("CREATE TABLE {} AS SELECT *, pg_current_xact_id()::xid AS since FROM ({}) f").format(
                    self.table, self._fingerprints(connection, sql.SQL("NOT coalesce({}, FALSE)").format(affected))
                )
            )

    def differences(self, connection: Connection) -> list[str] | None:
        """Where the table now differs from the fingerprints kept, a line a bucket with the rows to look at.

        None where this run kept none. Read-only.
        """
        if not self._exists(connection):
            return None
        outside = sql.SQL("NOT EXISTS (SELECT FROM {undo} u WHERE u.key = t.{key})").format(
            undo=self.backfill.undo, key=self.backfill.key
        )
        rows = connection.execute(
            sql.SQL("""SELECT scope, bucket, (SELECT since FROM {kept} LIMIT 1) AS since
            FROM (SELECT scope, bucket, n, x, s FROM {kept}) b FULL JOIN ({now}) a USING (scope, bucket)
            WHERE (b.n, b.x, b.s) IS DISTINCT FROM (a.n, a.x, a.s) ORDER BY scope, bucket""").format(
                kept=self.table, now=self._fingerprints(connection, outside)
            )
        ).fetchall()
        return [
            f"{row['scope']}: bucket {row['bucket']} differs; written since: "
            + (", ".join(self._suspects(connection, row["bucket"], row["since"])) or "no row (one was deleted)")
            for row in rows
        ]

    def rows(self, connection: Connection) -> int:
        """How many rows the kept fingerprints cover. Read-only."""
        query = sql.SQL("SELECT coalesce(sum(n), 0)::bigint AS n FROM {} WHERE scope = 'columns not written'")
        return int(one(connection, query.format(self.table))["n"])

    def forget(self, connection: Connection) -> None:
        """Drop the fingerprints kept. Changes the target."""
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.table))

    def _exists(self, connection: Connection) -> bool:
        name = self.table.as_string(connection)
        return bool(one(connection, "SELECT to_regclass(%s) IS NOT NULL AS it", [name])["it"])

    def _fingerprints(self, connection: Connection, outside: sql.Composable) -> sql.Composed:
        spec = self.backfill.database.backfill
        columns = [
            (row["name"], row["type"])
            for row in connection.execute(
                """SELECT attname AS name, atttypid::regtype::text AS type FROM pg_attribute
                   WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum""",
                [self.backfill.table.as_string(connection)],
            )
        ]
        written = {spec.column, spec.touch}
        return sql.SQL("""
            SELECT 'columns not written' AS scope, {bucket} AS bucket, {sums_kept} FROM {table} t GROUP BY 2
            UNION ALL
            SELECT 'rows outside the change', {bucket}, {sums_all} FROM {table} t WHERE {outside} GROUP BY 2""").format(
            bucket=self._bucket(),
            table=self.backfill.table,
            outside=outside,
            sums_kept=_sums([c for c in columns if c[0] not in written]),
            sums_all=_sums(columns),
        )

    def _bucket(self) -> sql.Composed:
        return sql.SQL("(hash_record_extended(ROW(t.{}), 0) & {})").format(self.backfill.key, sql.Literal(BUCKETS - 1))

    def _suspects(self, connection: Connection, bucket: int, since: int) -> list[str]:
        """Rows of a bucket that were written since, by a transaction that is not one of this run's. Read-only."""
        rows = connection.execute(
            sql.SQL("""SELECT t.{key}::text AS key FROM {table} t
            WHERE {bucket} = {number} AND age(t.xmin) < age({since}::xid)
              AND NOT EXISTS (SELECT FROM {undo} u WHERE u.key = t.{key} AND u.xid = t.xmin)
            ORDER BY t.{key} LIMIT 20""").format(
                key=self.backfill.key,
                table=self.backfill.table,
                bucket=self._bucket(),
                number=sql.Literal(bucket),
                undo=self.backfill.undo,
                since=sql.Literal(str(since)),
            )
        )
        return [row["key"] for row in rows]


def _sums(columns: list[tuple[str, str]]) -> sql.Composed:
    fields = [
        sql.SQL("t.{}::text" if type_name == "json" else "t.{}").format(sql.Identifier(name)) for name, type_name in columns
    ]
    return sql.SQL("count(*) AS n, bit_xor({h}) AS x, sum({h}) AS s").format(
        h=sql.SQL("hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join(fields))
    )
