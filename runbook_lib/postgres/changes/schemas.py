"""Schemas, extensions and extended statistics."""

from runbook_lib.postgres.changes.objects import USERS, Catalog, Kind, Object, changed, of_no_extension, quote
from runbook_lib.postgres.changes.tables import moved


class Schemas(Kind):
    """Schemas, by their names."""

    name = "schema"
    query = f"""
        SELECT n.oid::text AS id, n.nspname::text AS address, '' AS parent, '' AS schema, n.nspname::text AS name,
               jsonb_build_object('owner', pg_get_userbyid(n.nspowner)) AS definition, jsonb_build_object() AS keeps
        FROM pg_namespace n WHERE {USERS} AND {of_no_extension("pg_namespace", "n.oid")} ORDER BY n.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Make it."""
        return [f"CREATE SCHEMA {quote(expected.name)}"]

    def drop(self, actual: Object) -> list[str]:
        """Drop it once it is empty."""
        return [f"DROP SCHEMA {quote(actual.name)}"]

    def owned(self, actual: Object) -> str:
        """Return its name for ALTER."""
        return f"SCHEMA {quote(actual.name)}"

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it."""
        return [f"ALTER SCHEMA {quote(actual.name)} RENAME TO {quote(expected.name)}"]


class Extensions(Kind):
    """Extensions, with all that is part of them."""

    name = "extension"
    query = """
        SELECT e.oid::text AS id, e.extname::text AS address, '' AS parent, '' AS schema, e.extname::text AS name,
               jsonb_build_object('schema', n.nspname, 'version', e.extversion) AS definition, jsonb_build_object() AS keeps
        FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql' ORDER BY e.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Create it in the version that it had."""
        of = expected.definition
        return [f"CREATE EXTENSION {quote(expected.name)} SCHEMA {quote(of['schema'])} VERSION {quote(of['version'])}"]

    def drop(self, actual: Object) -> list[str]:
        """Drop it once nothing uses it."""
        return [f"DROP EXTENSION {quote(actual.name)}"]

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Update it to another version, and move it."""
        differ, made = changed(actual, expected), list[str]()
        if "version" in differ:
            made.append(f"ALTER EXTENSION {quote(actual.name)} UPDATE TO {quote(expected.definition['version'])}")
        if "schema" in differ:
            made.append(f"ALTER EXTENSION {quote(actual.name)} SET SCHEMA {quote(expected.definition['schema'])}")
        return made

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Return nothing: an extension keeps its name."""
        return []


class Statistics(Kind):
    """Extended statistics."""

    name = "statistics"
    query = f"""
        SELECT s.oid::text AS id, (pg_identify_object('pg_statistic_ext'::regclass, s.oid, 0)).identity AS address,
               'table ' || (pg_identify_object('pg_class'::regclass, s.stxrelid, 0)).identity AS parent,
               n.nspname::text AS schema, s.stxname::text AS name,
               jsonb_build_object('text', pg_get_statisticsobjdef(s.oid), 'target', nullif(s.stxstattarget, -1))
                   AS definition,
               jsonb_build_object() AS keeps
        FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
        WHERE {USERS} AND {of_no_extension("pg_statistic_ext", "s.oid")} ORDER BY s.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Make it."""
        return [expected.definition["text"], *self._target(expected)]

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"DROP STATISTICS {actual.quoted}"]

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Set its target."""
        return self._target(expected) if changed(actual, expected) == {"target"} else None

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it and move it to its schema."""
        return moved("STATISTICS", actual, expected)

    def _target(self, expected: Object) -> list[str]:
        target = expected.definition["target"]
        return [] if target is None else [f"ALTER STATISTICS {expected.quoted} SET STATISTICS {target}"]
