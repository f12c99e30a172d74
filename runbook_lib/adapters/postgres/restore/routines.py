"""Functions, procedures, views and triggers that two databases define differently under the same name."""

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA
from runbook_lib.adapters.postgres.connection import Connection

_DEFINITIONS = """
WITH theirs AS (
    SELECT oid FROM pg_namespace
    WHERE nspname NOT IN ('pg_catalog', 'information_schema', %s) AND nspname !~ '^pg_(toast|temp)')
SELECT CASE p.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END || p.oid::regprocedure AS name,
       md5(pg_get_functiondef(p.oid)) AS definition
FROM pg_proc p WHERE p.prokind <> 'a' AND p.pronamespace IN (SELECT oid FROM theirs)
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL
SELECT CASE c.relkind WHEN 'm' THEN 'materialized ' ELSE '' END || 'view ' || c.oid::regclass, md5(pg_get_viewdef(c.oid))
FROM pg_class c WHERE c.relkind IN ('v', 'm') AND c.relnamespace IN (SELECT oid FROM theirs)
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT format('trigger %%I of %%s', t.tgname, t.tgrelid::regclass), md5(pg_get_triggerdef(t.oid) || t.tgenabled::text)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND t.tgname !~ '^runbook_' AND c.relnamespace IN (SELECT oid FROM theirs)
"""


def defined_otherwise(live: Connection, backup: Connection) -> tuple[str, ...]:
    """Those whose definition in the live database is another than in the backup, by kind and name. Read-only."""
    here, there = (
        {row["name"]: row["definition"] for row in connection.execute(_DEFINITIONS, [OWN_SCHEMA])}
        for connection in (live, backup)
    )
    return tuple(sorted(name for name in here.keys() & there.keys() if here[name] != there[name]))
