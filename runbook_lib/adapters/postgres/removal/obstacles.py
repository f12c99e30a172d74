"""Why a table is not one whose columns can be removed."""

from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.removal.definitions import Definitions, identifier
from runbook_lib.plan import Database


def obstacles(connection: Connection, database: Database, definitions: Definitions, mode: str) -> list[str]:
    """Why the table itself is not one that this removal can handle, a line each. Read-only."""
    table = identifier(database).as_string(connection)
    lines = [row["why"] for row in connection.execute(_OBSTACLES, {"table": table, "key": database.key}).fetchall()]
    if mode == "drop":
        lines += [
            f"{column.name} is computed, so its values cannot be put back"
            for column in definitions.columns
            if column.computed
        ]
        lines += [
            f"{c.name} could only be made again under a long lock" for c in definitions.constraints if c.kind in ("p", "x")
        ]
        lines += [f"{index.name} is the table's replica identity" for index in definitions.indexes if index.of_replica]
    return lines


_OBSTACLES = """
WITH t AS (SELECT *, oid::regclass::text AS name FROM pg_class WHERE oid = %(table)s::regclass)
SELECT name || ' is not an ordinary table' AS why FROM t WHERE relkind <> 'r' OR relpersistence = 't'
UNION ALL SELECT name || ' inherits from ' || inhparent::regclass FROM t JOIN pg_inherits ON inhrelid = t.oid
UNION ALL SELECT inhrelid::regclass || ' inherits from ' || name FROM t JOIN pg_inherits ON inhparent = t.oid
UNION ALL SELECT 'our role does not own ' || name FROM t WHERE NOT pg_has_role(relowner, 'USAGE')
UNION ALL SELECT 'row security hides rows of ' || name || ' from our role' FROM t WHERE row_security_active(oid)
UNION ALL SELECT %(key)s || ' is not a key of ' || name || ' by itself' FROM t WHERE NOT EXISTS (
    SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = t.oid AND i.indnkeyatts = 1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
      AND a.attname = %(key)s AND a.attnotnull)
"""
