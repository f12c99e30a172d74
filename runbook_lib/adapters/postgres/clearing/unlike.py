"""Tells what a column has that one put in its place by a swap would not have."""

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.connection import Connection


def unlike(connection: Connection, backfill: Backfill) -> list[str]:
    """What the backfilled column has that one put in its place would not take over, a line each. Read-only."""
    spec = backfill.database.backfill
    rows = connection.execute(
        _UNLIKE.encode(),
        {"table": backfill.table.as_string(connection), "column": spec.column, "nulls": spec.cleared == "null"},
    )
    return [row["why"] for row in rows]


_UNLIKE = """
SELECT 'its type is ' || format_type(atttypid, atttypmod) AS why FROM pg_attribute a
WHERE {mine} AND atttypid <> 'jsonb'::regtype
UNION ALL SELECT 'its storage, compression, options or statistics are set' FROM pg_attribute a
JOIN pg_type y ON y.oid = atttypid
WHERE {mine} AND (attstorage <> typstorage OR attcompression <> '' OR attoptions IS NOT NULL
                  OR coalesce(attstattarget, -1) <> -1)
UNION ALL SELECT 'it is computed' FROM pg_attribute a WHERE {mine} AND attgenerated <> ''
UNION ALL SELECT 'it is NOT NULL, and the plan has cleared rows hold NULL' FROM pg_attribute a
WHERE {mine} AND attnotnull AND %(nulls)s
UNION ALL SELECT 'the index ' || i.indexrelid::regclass || ' is partial, unique or of an expression'
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE {mine} AND (i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR i.indisunique OR i.indisreplident)
""".replace("{mine}", "a.attrelid = %(table)s::regclass AND a.attname = %(column)s")
