"""Builds the SQL terms of each kind of backfill; the catalog gives the key, indexes and column type if the plan does not."""

from typing import Any

from psycopg import sql

from runbook_lib.config.plan import Backfill as ListSpec
from runbook_lib.config.plan import BackfillOfColumn, ColumnOfRow, Database, ScalarBackfill
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.backfill import list_terms
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.list_column import column_types
from runbook_lib.postgres.scalar_backfill import ColumnType, ScalarTerms


def backfill_terms(connection: Connection, spec: BackfillOfColumn, database: Database | None, run: str) -> BackfillTerms:
    """Build a backfill's SQL terms over its table, which may be the plan's own table, `database`. Read-only.

    Raises:
        PreconditionError: The table or the column does not exist, or no single column is a key.
        ParametersError: The plan's SQL cannot be read.
    """
    place = spec.place
    of_plan = database if database and spec.is_on(database) else None
    if isinstance(spec, ListSpec) and of_plan:
        return list_terms(connection, of_plan.model_copy(update={"backfill": spec}), run)
    found = connection.execute(
        _COLUMN.encode(),
        {"table": sql.Identifier(place.schema_, place.table).as_string(connection), "column": place.column},
    ).fetchone()
    if found is None or found["type"] is None:
        raise _unfit(spec, "there is no such column" if found else "there is no such table")
    key = spec.key or (of_plan.key if of_plan else _key(spec, found))
    given = of_plan or Database.model_validate(
        {"schema": place.schema_, "table": place.table, "key": key, "columns": {}, "kept_columns": {}, "indexes": [],
         "constraints": [], "drift_tolerance": spec.drift_tolerance}
    )  # fmt: skip
    indexes = list(dict.fromkeys([*given.indexes, *found["indexes"]]))
    triggers = {**given.triggers, **spec.triggers}
    table = given.model_copy(update={"key": key, "indexes": indexes, "triggers": triggers})
    if isinstance(spec, ListSpec):
        return list_terms(connection, table.model_copy(update={"backfill": spec}), run)
    assert isinstance(spec, ScalarBackfill)
    types = column_types(connection, sql.Identifier(place.schema_, place.table)).base
    source = types.get(spec.written.column, "") if isinstance(spec.written, ColumnOfRow) else ""
    type_ = ColumnType(found["type"], found["by_text"], found["is_array"], types[place.column], source)
    return ScalarTerms(table.model_copy(update={"backfill": None}), spec, run, type_)


def _key(spec: BackfillOfColumn, found: dict[str, Any]) -> str:
    if found["key"]:
        return str(found["key"])
    composite = f": its key is ({', '.join(found['composite'])})" if found["composite"] else ""
    raise _unfit(spec, f"the table has no key of a single column{composite}; keys of several columns are not supported here")


def _unfit(spec: BackfillOfColumn, why: str) -> PreconditionError:
    return PreconditionError(
        f"The backfill of {spec.column} cannot be removed: {why}.",
        where=f"table {spec.place.schema_}.{spec.place.table}",
        state="Nothing was changed.",
        safe_next="Correct `backfills` in the plan; then take a new preview.",
    )


_COLUMN = """
WITH t AS (SELECT to_regclass(%(table)s) AS oid),
u AS (SELECT i.indisprimary, i.indexrelid, i.indnkeyatts, ARRAY (
             SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY n(number, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = n.number AND a.attnotnull
             WHERE place <= i.indnkeyatts ORDER BY place) AS columns
      FROM t JOIN pg_index i ON i.indrelid = t.oid
      WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate),
a AS (SELECT a.*, y.typcategory, y.typelem, y.typlen, format_type(a.atttypid, a.atttypmod) AS type
      FROM t JOIN pg_attribute a ON a.attrelid = t.oid JOIN pg_type y ON y.oid = a.atttypid
      WHERE a.attname = %(column)s AND a.attnum > 0 AND NOT a.attisdropped)
SELECT a.type, a.typcategory = 'A' AS is_array,
       a.typcategory = 'S' OR a.typcategory = 'A' OR NOT EXISTS (
           SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
           WHERE m.amname = 'btree' AND o.opcdefault AND (o.opcintype = a.atttypid
                 OR o.opcintype = (SELECT nullif(typbasetype, 0) FROM pg_type WHERE oid = a.atttypid)
                 OR o.opcintype = 'anyenum'::regtype AND a.typcategory = 'E'
                 OR o.opcintype = 'anyrange'::regtype AND a.typcategory = 'R')) AS by_text,
       (SELECT columns[1] FROM u WHERE indnkeyatts = 1 AND cardinality(columns) = 1 AND columns[1] <> %(column)s
        ORDER BY indisprimary DESC, indexrelid LIMIT 1) AS key,
       (SELECT columns FROM u WHERE cardinality(columns) > 1 ORDER BY indisprimary DESC, indexrelid LIMIT 1) AS composite,
       ARRAY (SELECT x.relname::text FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
              WHERE i.indrelid = t.oid AND a.attnum = ANY (i.indkey) AND i.indisvalid AND NOT i.indisunique
                AND NOT i.indisreplident AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY 1) AS indexes
FROM t LEFT JOIN a ON TRUE WHERE t.oid IS NOT NULL
"""
