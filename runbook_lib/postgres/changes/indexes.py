"""Indexes that no constraint owns."""

from runbook_lib.postgres.changes.objects import USERS, Catalog, Kind, Object, of_no_extension
from runbook_lib.postgres.changes.tables import moved


class Indexes(Kind):
    """Indexes; those of partitions belong to the index of the partitioned table."""

    name = "index"
    query = f"""
        SELECT i.indexrelid::text AS id, (pg_identify_object('pg_class'::regclass, c.oid, 0)).identity AS address,
               CASE t.relkind WHEN 'm' THEN 'view ' ELSE 'table ' END
                   || (pg_identify_object('pg_class'::regclass, t.oid, 0)).identity AS parent,
               n.nspname::text AS schema, c.relname::text AS name,
               jsonb_build_object('text', pg_get_indexdef(i.indexrelid), 'valid', i.indisvalid) AS definition,
               jsonb_build_object('table', t.oid::regclass::text, 'key', CASE
                   WHEN i.indisunique AND i.indisvalid AND i.indpred IS NULL AND NOT 0 = ANY (i.indkey) THEN (
                       SELECT jsonb_agg(a.attname) FROM unnest(i.indkey) WITH ORDINALITY u (attnum, n)
                       JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
                       WHERE u.n <= i.indnkeyatts) END) AS keeps
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class t ON t.oid = i.indrelid
        WHERE {USERS} AND {of_no_extension("pg_class", "t.oid")} AND NOT c.relispartition
          AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
        ORDER BY i.indexrelid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Build it, on all partitions of its table."""
        return [expected.definition["text"].replace(" ON ONLY ", " ON ", 1)]

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"DROP INDEX {actual.quoted}"]

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it; its schema is its table's."""
        return [each for each in moved("INDEX", actual, expected) if "SET SCHEMA" not in each]
