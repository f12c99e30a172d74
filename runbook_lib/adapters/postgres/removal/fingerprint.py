"""Proof that no column but those removed changed in any row: row hashes, summed up in buckets, before and after."""

from collections.abc import Collection, Sequence

from psycopg import sql

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.adapters.postgres.connection import Connection, exists, one
from runbook_lib.adapters.postgres.removal.definitions import identifier
from runbook_lib.adapters.postgres.row_hash import whole
from runbook_lib.plan import Database

BUCKETS = 1024

# Of these types values that differ in a byte are different values, and hash so; any other type is hashed as its text.
EXACT = {"bool", "int2", "int4", "int8", "oid", "uuid", "bytea", "date", "time", "timestamp", "timestamptz", "char", "name"}


class Fingerprint:
    """The fingerprints of one run over the columns that stay."""

    def __init__(self, database: Database, run: str) -> None:
        self.database = database
        self.table = identifier(database)
        self.key = sql.Identifier(database.key)
        self.kept = sql.Identifier(OWN_SCHEMA, f"stayed_{run}")

    def record(self, connection: Connection, without: Collection[str]) -> None:
        """Keep the fingerprints of all columns but some as they are now, in place of earlier ones. Changes the target."""
        query = self._sums(connection, without)
        with connection.transaction():
            make_own_schema(connection)
            self.forget(connection)
            connection.execute(
                sql.SQL("CREATE TABLE {} AS SELECT *, pg_current_xact_id()::xid AS since FROM ({}) f").format(
                    self.kept, query
                )
            )

    def differences(self, connection: Connection, without: Collection[str]) -> list[str] | None:
        """Where all columns but some differ from what was kept, a line a bucket with the rows to look at. Read-only.

        None where this run kept nothing.
        """
        if not exists(connection, self.kept):
            return None
        rows = connection.execute(
            sql.SQL("""SELECT bucket, (SELECT since FROM {kept} LIMIT 1) AS since
            FROM (SELECT bucket, n, x, s FROM {kept}) b FULL JOIN ({now}) a USING (bucket)
            WHERE (b.n, b.x, b.s) IS DISTINCT FROM (a.n, a.x, a.s) ORDER BY bucket""").format(
                kept=self.kept, now=self._sums(connection, without)
            )
        ).fetchall()
        return [
            f"bucket {row['bucket']} differs; written since: "
            + (", ".join(self._suspects(connection, row["bucket"], row["since"])) or "no row (one was deleted)")
            for row in rows
        ]

    def rows(self, connection: Connection) -> int:
        """How many rows the kept fingerprints cover. Read-only."""
        return int(one(connection, sql.SQL("SELECT coalesce(sum(n), 0)::bigint AS n FROM {}").format(self.kept))["n"])

    def forget(self, connection: Connection) -> None:
        """Drop the fingerprints kept. Changes the target."""
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.kept))

    def _sums(self, connection: Connection, without: Collection[str]) -> sql.Composed:
        columns = connection.execute(
            """SELECT attname AS name, t.typname AS type FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
               WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attname <> ALL (%s) ORDER BY attname""",
            [self.table.as_string(connection), list(without)],
        )
        return sql.SQL("SELECT {bucket} AS bucket, {sums} FROM {table} t GROUP BY 1").format(
            bucket=self._bucket(), sums=sums([hashable("t", row["name"], row["type"]) for row in columns]), table=self.table
        )

    def _bucket(self) -> sql.Composed:
        return sql.SQL("(hash_record_extended(ROW(t.{}), 0) & {})").format(self.key, sql.Literal(BUCKETS - 1))

    def _suspects(self, connection: Connection, bucket: int, since: int) -> list[str]:
        rows = connection.execute(
            sql.SQL("""SELECT t.{key}::text AS key FROM {table} t
            WHERE {bucket} = {number} AND age(t.xmin) < age({since}::xid) ORDER BY t.{key} LIMIT 20""").format(
                key=self.key,
                table=self.table,
                bucket=self._bucket(),
                number=sql.Literal(bucket),
                since=sql.Literal(str(since)),
            )
        )
        return [row["key"] for row in rows]


def hashable(table: str, column: str, type_name: str) -> sql.Composable:
    """A column in a form whose hash tells any two different values apart."""
    value = sql.Identifier(table, column)
    return whole(value, type_name) if type_name in EXACT else sql.SQL('({}::text COLLATE "C")').format(value)


def sums(fields: Sequence[sql.Composable]) -> sql.Composed:
    """Count, bit_xor and sum of the hashes of rows, as n, x and s."""
    row = sql.SQL("hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join(fields))
    return sql.SQL("count(*) AS n, bit_xor({h}) AS x, sum({h}) AS s").format(h=row)
