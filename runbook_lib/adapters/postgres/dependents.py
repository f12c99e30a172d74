"""What hangs on columns that are to go or to be exchanged, by name: nothing of it is ever taken along."""

from collections.abc import Sequence

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.plan import Database


def dependents(connection: Connection, database: Database, columns: Sequence[str]) -> list[str]:
    """Everything that uses one of the columns and that the plan does not name, a line each. Read-only."""
    parameters = {
        "table": _table(database, connection),
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


def hides_rows(connection: Connection, database: Database) -> bool:
    """Whether row security keeps rows of the table from our role. Read-only."""
    name = _table(database, connection)
    return bool(one(connection, "SELECT row_security_active(%s::regclass) AS it", [name])["it"])


def risks(connection: Connection, database: Database, columns: Sequence[str]) -> list[str]:
    """What may stop working although the catalog does not tie it to the columns, a line each. Read-only."""
    parameters = {"table": _table(database, connection), "columns": list(columns)}
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
        [_table(database, connection)],
    )
    return [row["name"] for row in rows]


def _table(database: Database, connection: Connection) -> str:
    return sql.Identifier(database.schema_, database.table).as_string(connection)


_NAMES_A_COLUMN = r"""ARRAY (SELECT c FROM unnest(%(columns)s::text[]) c
    WHERE p.prosrc ~ ('(?<!\w)' || regexp_replace(c, '([^\w])', '\\\1', 'g') || '(?!\w)'))"""

_DEPENDENTS = """
WITH removed AS (
    SELECT attnum, attname FROM pg_attribute
    WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped AND attname = ANY (%(columns)s)
)
SELECT coalesce(CASE v.relkind WHEN 'm' THEN 'materialized ' ELSE '' END || 'view ' || v.oid::regclass,
                'generated column ' || g.attname, pg_describe_object(d.classid, d.objid, d.objsubid)) AS what,
       array_agg(DISTINCT r.attname::text) AS columns
FROM pg_depend d JOIN removed r ON r.attnum = d.refobjsubid
LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
LEFT JOIN pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm')
LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
LEFT JOIN pg_attribute g ON g.attrelid = f.adrelid AND g.attnum = f.adnum AND g.attgenerated <> ''
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
