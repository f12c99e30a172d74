"""Fingerprints rows before and after a change: 64-bit hashes of a row in SQL, and their sums in buckets.

Both hashes distinguish values with different texts. `row_hash` hashes a whole row: it chains the types' own functions, which
all cores compute quickly. `hashed` hashes any terms by hash_record_extended, which folds numbers and times and takes 1.0 for
1.00, so `hashable` writes those out. hashint8extended folds 64 bits to 32, so `row_hash` adds the number itself.
"""

from collections.abc import Collection, Sequence, Set

from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, identify_rows, make_own_schema
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import identifier

_NULL = 0x5851F42D4C957F2D  # goes in instead of a value's hash if the value is NULL
_WHOLE_NUMBER = ("hashint8extended({c}::bigint, {seed}) # {c}::bigint", "0")
_BY_TYPE = {  # the hash of a value, and the substitute for NULL
    "bigint": _WHOLE_NUMBER,
    "integer": _WHOLE_NUMBER,
    "smallint": _WHOLE_NUMBER,
    # In these years a float holds each microsecond; outside them the text goes in too.
    "timestamp with time zone": (
        """hashfloat8extended(date_part('epoch', {c}), {seed}) # CASE
        WHEN {c} BETWEEN '1700-01-01 00:00Z' AND '2200-01-01 00:00Z' THEN 0
        ELSE hashtextextended({c}::text COLLATE "C", 1) END""",
        "'epoch'",
    ),
}
_BY_TEXT = ("""hashtextextended({c} COLLATE "C", {seed})""", "''")
# Since version 18, a NOT NULL may be unvalidated, so older NULLs may exist.
_COLUMNS = """SELECT attname AS name, atttypid::regtype::text AS type, attnotnull AND NOT EXISTS (
    SELECT FROM pg_constraint WHERE conrelid = attrelid AND contype = 'n' AND conkey = ARRAY[attnum] AND NOT convalidated
) AS never_null
FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""


def row_hash(
    connection: Connection, table: sql.Identifier, without: Set[str | None], last: sql.Composable | None = None
) -> sql.Composable:
    """Build a term that hashes a row `t` of a table; reads the table's columns from the catalog. Read-only.

    Args:
        connection: To the table's database.
        table: The table.
        without: Columns to leave out.
        last: A term over `t` whose text goes in last; NULL counts as an empty text.
    """
    term: sql.Composable = sql.SQL("0::bigint")
    for row in connection.execute(_COLUMNS, [table.as_string(connection)]):
        if row["name"] not in without:
            value = sql.Identifier("t", row["name"])
            term = sql.SQL("({})").format(_chained(value, row["type"], term, never_null=row["never_null"]))
    return sql.SQL(_BY_TEXT[0]).format(c=sql.SQL("coalesce({}::text, '')").format(last), seed=term) if last else term


def _chained(value: sql.Composable, type_name: str, seed: sql.Composable, *, never_null: bool) -> sql.Composable:
    template, instead = _BY_TYPE.get(type_name, _BY_TEXT)
    if type_name not in _BY_TYPE:
        value = sql.SQL("{}::text").format(value)
    if never_null:
        return sql.SQL(template).format(c=value, seed=seed)
    of_any = sql.SQL(template).format(c=sql.SQL("coalesce({}, {})").format(value, sql.SQL(instead)), seed=seed)
    return sql.SQL("({}) # CASE WHEN {} IS NULL THEN {} ELSE 0 END").format(of_any, value, sql.Literal(_NULL))


# Built-in types whose hash distinguishes any two values with different texts, in any database.
EXACT = {"bool", "int2", "int4", "int8", "oid", "uuid", "bytea", "date", "time", "timestamp", "timestamptz"}
EXACT |= {"char", "name", "text", "varchar"}
_COLLATED = {"text", "varchar", "name", "bpchar"}
# Types whose own hash folds 64 bits to 32, so 1 and 4294967296 hash alike; their binary output is complete.
_FOLDED = {"int8": "int8send", "time": "time_send", "timestamp": "timestamp_send", "timestamptz": "timestamptz_send"}


def hashable(value: sql.Composable, type_name: str, exact: Set[str] = EXACT) -> sql.Composable:
    """Write a value so that its hash differs wherever the value does, in any database. Pure.

    Args:
        value: A term.
        type_name: Its type's short name where that is built in.
        exact: Types hashed as they are; any other type is hashed by its text.
    """
    if type_name not in exact:
        return sql.SQL('({}::text COLLATE "C")').format(value)
    form = sql.SQL("pg_catalog.{}({})").format(sql.SQL(_FOLDED[type_name]), value) if type_name in _FOLDED else value
    return sql.SQL('({} COLLATE "C")').format(form) if type_name in _COLLATED else form


def hashed(terms: Sequence[sql.Composable], seed: int = 0) -> sql.Composed:
    """Hash hashable terms together in 64 bits. Pure."""
    return sql.SQL("hash_record_extended(ROW({}), {})").format(sql.SQL(", ").join(terms), sql.Literal(seed))


def sums(terms: Sequence[sql.Composable]) -> sql.Composed:
    """Sum up the hashes of rows: their count, bit_xor and sum, as n, x and s. Pure."""
    return sql.SQL("count(*) AS n, bit_xor({h}) AS x, sum({h}) AS s").format(h=hashed(terms))


BUCKETS = 1024


class Fingerprint:
    """The fingerprints of one run, over the columns that stay."""

    def __init__(self, database: Database, run: str) -> None:
        self.database = database
        self.table = identifier(database)
        self.key = sql.Identifier(database.key)
        self.kept = sql.Identifier(OWN_SCHEMA, f"stayed_{run}")

    def record(self, connection: Connection, without: Collection[str]) -> None:
        """Store the present fingerprints of all columns but some, replacing earlier ones. Changes the target."""
        query = self._sums(connection, without)
        with connection.transaction():
            make_own_schema(connection)
            self.forget(Statements(connection))
            connection.execute(
                sql.SQL("CREATE TABLE {} AS SELECT *, pg_current_xact_id()::xid AS since FROM ({}) f").format(
                    self.kept, query
                )
            )
            connection.execute(identify_rows(self.kept))

    def differences(self, connection: Connection, without: Collection[str]) -> list[str] | None:
        """List the buckets that differ from the stored ones, one line each with the rows to look at. Read-only.

        None if this run stored nothing.
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
        """Count the rows that the stored fingerprints cover. Read-only."""
        return int(one(connection, sql.SQL("SELECT coalesce(sum(n), 0)::bigint AS n FROM {}").format(self.kept))["n"])

    def forget(self, statements: Statements) -> None:
        """Drop the stored fingerprints. Changes the target."""
        statements.write(sql.SQL("DROP TABLE IF EXISTS {}").format(self.kept))

    def _sums(self, connection: Connection, without: Collection[str]) -> sql.Composed:
        columns = connection.execute(
            """SELECT attname AS name, CASE typnamespace WHEN 'pg_catalog'::regnamespace THEN typname ELSE '' END AS type
               FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
               WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attname <> ALL (%s) ORDER BY attname""",
            [self.table.as_string(connection), list(without)],
        )
        terms = [hashable(sql.Identifier("t", row["name"]), row["type"]) for row in columns]
        return sql.SQL("SELECT {bucket} AS bucket, {sums} FROM {table} t GROUP BY 1").format(
            bucket=self._bucket(), sums=sums(terms), table=self.table
        )

    def _bucket(self) -> sql.Composed:
        return sql.SQL("({} & {})").format(hashed([sql.SQL("t.{}").format(self.key)]), sql.Literal(BUCKETS - 1))

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
