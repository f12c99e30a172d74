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
_WHOLE_NUMBER = ("hashint8extended({c}::bigint, {seed}) # {c}::bigint", "0")
_BY_TYPE = {  # the hash of a value, and the value that stands for none
    "bigint": _WHOLE_NUMBER,
    "integer": _WHOLE_NUMBER,
    "smallint": _WHOLE_NUMBER,
    # In these years a float holds each microsecond; beyond them the text is put in beside it.
    "timestamp with time zone": (
        """hashfloat8extended(date_part('epoch', {c}), {seed}) # CASE
        WHEN {c} BETWEEN '1700-01-01 00:00Z' AND '2200-01-01 00:00Z' THEN 0
        ELSE hashtextextended({c}::text COLLATE "C", 1) END""",
        "'epoch'",
    ),
}
_BY_TEXT = ("""hashtextextended({c} COLLATE "C", {seed})""", "''")
# On 18 and later a NOT NULL need not have been validated: there may be NULLs from before.
_COLUMNS = """SELECT attname AS name, atttypid::regtype::text AS type, attnotnull AND NOT EXISTS (
    SELECT FROM pg_constraint WHERE conrelid = attrelid AND contype = 'n' AND conkey = ARRAY[attnum] AND NOT convalidated
) AS never_null
FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""


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
    term: sql.Composable = sql.SQL("0::bigint")
    for row in connection.execute(_COLUMNS, [table.as_string(connection)]):
        if row["name"] not in without:
            hashed = _hash(sql.Identifier("t", row["name"]), row["type"], term, never_null=row["never_null"])
            term = sql.SQL("({})").format(hashed)
    return sql.SQL(_BY_TEXT[0]).format(c=sql.SQL("coalesce({}::text, '')").format(last), seed=term) if last else term


def _hash(value: sql.Composable, type_name: str, seed: sql.Composable, *, never_null: bool) -> sql.Composable:
    template, instead = _BY_TYPE.get(type_name, _BY_TEXT)
    if type_name not in _BY_TYPE:
        value = sql.SQL("{}::text").format(value)
    if never_null:
        return sql.SQL(template).format(c=value, seed=seed)
    hashed = sql.SQL(template).format(c=sql.SQL("coalesce({}, {})").format(value, sql.SQL(instead)), seed=seed)
    return sql.SQL("({}) # CASE WHEN {} IS NULL THEN {} ELSE 0 END").format(hashed, value, sql.Literal(_NULL))
