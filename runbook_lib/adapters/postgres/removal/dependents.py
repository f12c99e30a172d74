"""What hangs on columns that are to go, by name: nothing of it is ever taken along."""

from collections.abc import Sequence

from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.removal.definitions import Definitions, identifier
from runbook_lib.plan import Database


def dependents(connection: Connection, database: Database, columns: Sequence[str]) -> list[str]:
    """Everything that uses one of the columns and that the plan does not name, a line each. Read-only."""
    parameters = {
        "table": identifier(database).as_string(connection),
        "columns": list(columns),
        "indexes": database.indexes,
        "constraints": database.constraints,
    }
    lines = [
        f"{row['what']} uses {', '.join(row['columns'])}" for row in connection.execute(_DEPENDENTS, parameters).fetchall()
    ]
    lines += [f"rights on {row['name']}: {row['acl']}" for row in connection.execute(_RIGHTS, parameters).fetchall()]
    for row in connection.execute(_TRIGGERS, parameters).fetchall():
        lines.append(f"trigger {row['name']} calls {row['function']}, whose text names {', '.join(row['columns'])}")
    return lines


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


def risks(connection: Connection, database: Database, columns: Sequence[str]) -> list[str]:
    """What may stop working although the catalog does not tie it to the columns, a line each. Read-only."""
    parameters = {"table": identifier(database).as_string(connection), "columns": list(columns)}
    functions = connection.execute(_FUNCTIONS, parameters).fetchall()
    publications = connection.execute(_PUBLICATIONS, parameters).fetchall()
    return [f"the text of function {row['name']} names {', '.join(row['columns'])}" for row in functions] + [
        f"publication {row['name']} publishes the table: its subscribers have these columns too" for row in publications
    ]


def update_triggers(connection: Connection, database: Database) -> list[str]:
    """The triggers that fire for an updated row of the table. Read-only."""
    rows = connection.execute(
        """SELECT tgname AS name FROM pg_trigger
           WHERE tgrelid = %s::regclass AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 16 <> 0
             AND tgname !~ '^runbook_' ORDER BY 1""",
        [identifier(database).as_string(connection)],
    )
    return [row["name"] for row in rows]


_NAMES_A_COLUMN = r"""ARRAY (SELECT c FROM unnest(%(columns)s::text[]) c
    WHERE p.prosrc ~ ('(?<!\w)' || regexp_replace(c, '([^\w])', '\\\1', 'g') || '(?!\w)'))"""

_DEPENDENTS = """
WITH removed AS (
    SELECT attnum, attname FROM pg_attribute
    WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped AND attname = ANY (%(columns)s)
)
SELECT coalesce(CASE v.relkind WHEN 'm' THEN 'materialized ' ELSE '' END || 'view ' || v.oid::regclass,
                pg_describe_object(d.classid, d.objid, d.objsubid)) AS what,
       array_agg(DISTINCT r.attname::text) AS columns
FROM pg_depend d JOIN removed r ON r.attnum = d.refobjsubid
LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
LEFT JOIN pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm')
LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
LEFT JOIN pg_index i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
LEFT JOIN pg_class x ON x.oid = i.indexrelid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %(table)s::regclass
  AND NOT coalesce(f.adrelid = d.refobjid AND f.adnum IN (SELECT attnum FROM removed), FALSE)
  AND NOT coalesce(k.conrelid = d.refobjid AND (k.conname = ANY (%(constraints)s)
                   OR k.contype = 'n' AND k.conkey <@ ARRAY (SELECT attnum FROM removed)), FALSE)
  AND NOT coalesce(i.indrelid = d.refobjid AND x.relname = ANY (%(indexes)s), FALSE)
GROUP BY 1 ORDER BY 1
"""

_RIGHTS = """
SELECT attname AS name, attacl::text AS acl FROM pg_attribute
WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped AND attname = ANY (%(columns)s)
  AND attacl IS NOT NULL ORDER BY attnum
"""

_TRIGGERS = """
SELECT * FROM (
    SELECT t.tgname AS name, p.oid::regprocedure::text AS function, {named} AS columns
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = %(table)s::regclass AND NOT t.tgisinternal AND t.tgname !~ '^runbook_') f
WHERE cardinality(columns) > 0 ORDER BY name
""".replace("{named}", _NAMES_A_COLUMN)

_FUNCTIONS = """
SELECT * FROM (
    SELECT p.oid::regprocedure::text AS name, {named} AS columns
    FROM pg_proc p
    WHERE p.pronamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'runbook') AND p.prosqlbody IS NULL
      AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid AND t.tgrelid = %(table)s::regclass)) f
WHERE cardinality(columns) > 0 ORDER BY name
""".replace("{named}", _NAMES_A_COLUMN)

_PUBLICATIONS = """
SELECT DISTINCT p.pubname AS name FROM pg_publication_tables p JOIN pg_class c ON c.relname = p.tablename
WHERE c.oid = %(table)s::regclass AND p.schemaname = c.relnamespace::regnamespace::text ORDER BY 1
"""

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
