"""Constraints of tables, with the indexes that they own."""

from runbook_lib.postgres.changes.objects import USERS, Catalog, Kind, Object, of_no_extension, quote


class Constraints(Kind):
    """Primary and foreign keys, unique, check and exclusion constraints; NOT NULL belongs to columns."""

    name = "constraint"
    query = f"""
        SELECT k.oid::text AS id, (pg_identify_object('pg_constraint'::regclass, k.oid, 0)).identity AS address,
               'table ' || (pg_identify_object('pg_class'::regclass, c.oid, 0)).identity AS parent,
               n.nspname::text AS schema, k.conname::text AS name,
               jsonb_build_object('text', pg_get_constraintdef(k.oid), 'type', k.contype) AS definition,
               jsonb_build_object('table', format('%I.%I', n.nspname, c.relname), 'expression',
                   pg_get_expr(k.conbin, k.conrelid), 'columns', (SELECT jsonb_agg(a.attname ORDER BY u.n)
                       FROM unnest(k.conkey) WITH ORDINALITY u (attnum, n)
                       JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum),
                   'references', CASE WHEN k.confrelid <> 0 THEN k.confrelid::regclass::text END,
                   'referred', (SELECT jsonb_agg(a.attname ORDER BY u.n)
                       FROM unnest(k.confkey) WITH ORDINALITY u (attnum, n)
                       JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum)) AS keeps
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {USERS} AND c.relkind IN ('r', 'p') AND k.contype IN ('p', 'u', 'x', 'c', 'f') AND k.conparentid = 0
          AND (k.conislocal OR k.coninhcount = 0) AND {of_no_extension("pg_class", "c.oid")}
        ORDER BY k.contype = 'f', k.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Add it, which checks every row."""
        text = expected.definition["text"]
        return [f"ALTER TABLE {expected.keeps['table']} ADD CONSTRAINT {quote(expected.name)} {text}"]

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"ALTER TABLE {actual.keeps['table']} DROP CONSTRAINT {quote(actual.name)}"]

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it."""
        return [f"ALTER TABLE {actual.keeps['table']} RENAME CONSTRAINT {quote(actual.name)} TO {quote(expected.name)}"]
