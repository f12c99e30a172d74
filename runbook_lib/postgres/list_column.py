"""SQL terms for each type of column that can store a list of JSON values. Read-only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import psycopg
from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.connection import one

SHOWN = 3  # keys of values that are not JSON, as examples
_OF_TEXT = """(SELECT x.own::jsonb AS value, x.own, x.place FROM json_array_elements(
    CASE json_typeof({c}) WHEN 'array' THEN {c} ELSE '[]' END) WITH ORDINALITY x(own, place)) e"""


@dataclass(frozen=True)
class ListKind:
    """A kind of column: SQL templates over a value `{c}`, and over its elements `e`.

    An element has its `value` as jsonb and its `place`. Kinds stored as text also have its `own` text, to rebuild the list.
    """

    value: str  # the whole list as jsonb, or NULL
    elements: str  # its elements; none if it is not a list
    put_together: str  # a list of some of those elements, each as it was written
    empty: str
    by_text: bool  # whether equal values may have different texts, so that texts are compared and kept


JSONB = ListKind(
    value="{c}",
    elements="jsonb_array_elements(CASE jsonb_typeof({c}) WHEN 'array' THEN {c} ELSE '[]' END)"
    " WITH ORDINALITY e(value, place)",
    put_together="jsonb_agg(e.value ORDER BY e.place)",
    empty="[]",
    by_text=False,
)
JSON = ListKind(
    value="({c})::jsonb",
    elements=_OF_TEXT,
    put_together="('[' || string_agg(e.own::text, ',' ORDER BY e.place) || ']')::json",
    empty="[]",
    by_text=True,
)
TEXT = ListKind(
    value="nullif(btrim({c}), '')::jsonb",
    elements=_OF_TEXT.replace("{c}", "nullif(btrim({c}), '')::json"),
    put_together="('[' || string_agg(e.own::text, ',' ORDER BY e.place) || ']')",
    empty="[]",
    by_text=True,
)
ARRAY = ListKind(
    value="to_jsonb(({c})::json[])",
    elements="""(SELECT x.own::jsonb AS value, x.own, x.place
    FROM unnest(CASE array_ndims({c}) WHEN 1 THEN {c} END) WITH ORDINALITY x(own, place)) e""",
    put_together="array_agg(e.own ORDER BY e.place)",
    empty="{}",
    by_text=True,
)
KINDS = {
    "jsonb": JSONB,
    "json": JSON,
    **dict.fromkeys(("text", "character varying", "character", "citext"), TEXT),
    **dict.fromkeys(("jsonb[]", "json[]", "text[]", "character varying[]"), ARRAY),
}


@dataclass(frozen=True)
class ColumnTypes:
    """The types of a table's columns: as the catalog writes them, and their base types, without domains and lengths."""

    full: Mapping[str, str]
    base: Mapping[str, str]


def column_types(connection: Connection, table: sql.Identifier) -> ColumnTypes:
    """Read the types of a table's columns; none if the table does not exist. Read-only."""
    rows = connection.execute(_TYPES.encode(), [table.as_string(connection)]).fetchall()
    return ColumnTypes({row["name"]: row["type"] for row in rows}, {row["name"]: row["base"] for row in rows})


def not_json(connection: Connection, table: sql.Identifier, key: str, column: str, kind: ListKind) -> str:
    """Explain why some values of a column cannot be read as JSON; "" if all can. Read-only."""
    value = sql.SQL(kind.value).format(c=sql.Identifier("t", column))
    try:
        with connection.transaction():
            one(connection, sql.SQL("SELECT count({}) AS n FROM {} t").format(value, table))
    except psycopg.DataError as error:
        keys = list(islice(_unreadable(connection, table, key, column), SHOWN))
        such = f", such as in the rows {', '.join(keys)}" if keys else ""
        return f"not every value of {column} is JSON ({error.diag.message_primary}){such}"
    return ""


def _unreadable(connection: Connection, table: sql.Identifier, key: str, column: str) -> list[str]:
    query = sql.SQL("SELECT t.{key}::text AS key, to_json(t.{column}) AS value FROM {table} t ORDER BY t.{key}").format(
        key=sql.Identifier(key), column=sql.Identifier(column), table=table
    )
    with connection.transaction(), connection.cursor("unreadable") as cursor:
        return [row["key"] for row in cursor.execute(query) if not _reads(row["value"])]


def _reads(value: object) -> bool:
    try:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.strip():
                json.loads(text)
    except ValueError:
        return False
    return True


_TYPES = """
WITH RECURSIVE a AS (
    SELECT attname, format_type(atttypid, atttypmod) AS type, atttypid AS base FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT a.attname, a.type, y.typbasetype FROM a JOIN pg_type y ON y.oid = a.base AND y.typtype = 'd'
)
SELECT attname AS name, type, format_type(base, NULL) AS base
FROM a JOIN pg_type y ON y.oid = base AND y.typtype <> 'd'
"""
