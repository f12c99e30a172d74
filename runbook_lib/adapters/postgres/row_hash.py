"""A 64-bit hash of a row, as SQL: of all its columns but some, each hashed with the hash of those before it as its seed.

It is made of the types' own functions; unlike hash_record_extended, which folds numbers and times and takes 1.0 for 1.00, it
tells apart whatever has another text. hashint8extended folds its 64 bits to 32, so the number itself is put in beside it.
"""

from collections.abc import Set

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection

# What a value's text depends on; other sessions may have it otherwise.
SAME_TEXT = """SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL IntervalStyle = 'postgres';
SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'"""

# Types whose own hash folds 64 bits to 32, so that 1 and 4294967296 hash alike; what is sent of them to a client is whole.
_FOLDED = {"int8": "int8send", "time": "time_send", "timestamp": "timestamp_send", "timestamptz": "timestamptz_send"}

_NULL = 0x5851F42D4C957F2D  # what is put in beside the hash where there is no value
_WHOLE_NUMBER = "hashint8extended(coalesce({c}::bigint, 0), {seed}) # coalesce({c}::bigint, 0)"
_BY_TYPE = {
    "bigint": _WHOLE_NUMBER,
    "integer": _WHOLE_NUMBER,
    "smallint": _WHOLE_NUMBER,
    # In these years a float holds each microsecond; beyond them the text is put in beside it.
    "timestamp with time zone": """hashfloat8extended(date_part('epoch', coalesce({c}, 'epoch')), {seed}) # CASE
        WHEN {c} IS NULL OR {c} BETWEEN '1700-01-01 00:00Z' AND '2200-01-01 00:00Z' THEN 0
        ELSE hashtextextended({c}::text COLLATE "C", 1) END""",
}
_BY_TEXT = """hashtextextended(coalesce({c}::text, '') COLLATE "C", {seed})"""


def whole(value: sql.Composable, type_name: str) -> sql.Composable:
    """A value of a built-in type in a form whose hash uses all of its bits, as a term. Pure."""
    return sql.SQL("pg_catalog.{}({})").format(sql.SQL(_FOLDED[type_name]), value) if type_name in _FOLDED else value


def row_hash(
    connection: Connection, table: sql.Identifier, without: Set[str | None], last: sql.Composable | None = None
) -> sql.Composable:
    """The hash of a row `t` of a table as it is now, as a term; the catalog is read for its columns. Read-only.

    Args:
        connection: To the table's database.
        table: The table.
        without: Columns that are left out.
        last: A term over `t` that is put in last by its text, NULL as an empty one.
    """
    columns = connection.execute(
        """SELECT attname AS name, atttypid::regtype::text AS type FROM pg_attribute
           WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum""",
        [table.as_string(connection)],
    )
    term: sql.Composable = sql.SQL("0::bigint")
    for row in columns:
        if row["name"] not in without:
            column = sql.Identifier("t", row["name"])
            hashed = sql.SQL(_BY_TYPE.get(row["type"], _BY_TEXT)).format(c=column, seed=term)
            term = sql.SQL("(({}) # CASE WHEN {} IS NULL THEN {} ELSE 0 END)").format(hashed, column, sql.Literal(_NULL))
    return sql.SQL(_BY_TEXT).format(c=last, seed=term) if last else term
