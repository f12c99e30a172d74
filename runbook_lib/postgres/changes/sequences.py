"""Sequences, except those of identity columns."""

from runbook_lib.postgres.changes.objects import USERS, Catalog, Kind, Object, changed, of_no_extension
from runbook_lib.postgres.changes.tables import moved


class Sequences(Kind):
    """Sequences by their settings; their position is a value, and is never set back."""

    name = "sequence"
    query = f"""
        SELECT c.oid::text AS id, (pg_identify_object('pg_class'::regclass, c.oid, 0)).identity AS address, coalesce((
                   SELECT 'column ' || (pg_identify_object('pg_class'::regclass, d.refobjid, d.refobjsubid)).identity
                   FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'a'
                     AND d.refclassid = 'pg_class'::regclass), '') AS parent,
               n.nspname::text AS schema, c.relname::text AS name,
               jsonb_build_object('owner', pg_get_userbyid(c.relowner),
                   'type', s.seqtypid::regtype::text, 'increment', s.seqincrement, 'max', s.seqmax,
                   'min', s.seqmin, 'start', s.seqstart, 'cache', s.seqcache, 'cycle', s.seqcycle,
                   'owned by', (SELECT format('%s.%I', d.refobjid::regclass, a.attname) FROM pg_depend d
                       JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                       WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'a'
                         AND d.refclassid = 'pg_class'::regclass)) AS definition,
               jsonb_build_object('last', pg_sequence_last_value(c.oid)) AS keeps
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {USERS} AND {of_no_extension("pg_class", "c.oid")}
          AND NOT EXISTS (
              SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')
        ORDER BY c.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Create it, owned by no column yet: the column may come later."""
        of = expected.definition
        made = [f"CREATE SEQUENCE {expected.quoted} AS {of['type']} {_settings(expected)} START WITH {of['start']}"]
        if expected.keeps["last"] is not None:
            made.append(f"SELECT setval('{expected.quoted.replace(chr(39), chr(39) * 2)}', {expected.keeps['last']})")
        return made

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"DROP SEQUENCE {actual.quoted}"]

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Change its settings."""
        differ, of, made = changed(actual, expected), expected.definition, list[str]()
        if differ - {"owned by"}:
            typed = f"AS {of['type']} " if "type" in differ else ""
            made.append(f"ALTER SEQUENCE {actual.quoted} {typed}{_settings(expected)} START WITH {of['start']}")
        if "owned by" in differ:
            made.append(f"ALTER SEQUENCE {actual.quoted} OWNED BY {of['owned by'] or 'NONE'}")
        return made

    def owned(self, actual: Object) -> str:
        """Return its name for ALTER."""
        return f"SEQUENCE {actual.quoted}"

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it and move it to its schema."""
        return moved("SEQUENCE", actual, expected)


def _settings(expected: Object) -> str:
    of = expected.definition
    return (
        f"INCREMENT BY {of['increment']} MINVALUE {of['min']} MAXVALUE {of['max']} CACHE {of['cache']} "
        f"{'CYCLE' if of['cycle'] else 'NO CYCLE'}"
    )
