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

    def create(self, wanted: Object, catalog: Catalog) -> list[str]:
        """Make it."""
        return [f"CREATE SCHEMA {quote(wanted.name)}"]

    def drop(self, there: Object) -> list[str]:
        """Drop it, once it is empty."""
        return [f"DROP SCHEMA {quote(there.name)}"]

    def owned(self, there: Object) -> str:
        """What ALTER calls it."""
        return f"SCHEMA {quote(there.name)}"

    def rename(self, there: Object, wanted: Object) -> list[str]:
        """Give it its name."""
        return [f"ALTER SCHEMA {quote(there.name)} RENAME TO {quote(wanted.name)}"]


class Extensions(Kind):
    """Extensions, with all that is part of them."""

    name = "extension"
    query = """
        SELECT e.oid::text AS id, e.extname::text AS address, '' AS parent, '' AS schema, e.extname::text AS name,
               jsonb_build_object('schema', n.nspname, 'version', e.extversion) AS definition, jsonb_build_object() AS keeps
        FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql' ORDER BY e.oid"""

    def create(self, wanted: Object, catalog: Catalog) -> list[str]:
        """Make it, in the version that it had."""
        of = wanted.definition
        return [f"CREATE EXTENSION {quote(wanted.name)} SCHEMA {quote(of['schema'])} VERSION {quote(of['version'])}"]

    def drop(self, there: Object) -> list[str]:
        """Drop it, once nothing uses it."""
        return [f"DROP EXTENSION {quote(there.name)}"]

    def alter(self, there: Object, wanted: Object, catalog: Catalog) -> list[str] | None:
        """Update it to another version, and move it."""
        differ, made = changed(there, wanted), list[str]()
        if "version" in differ:
            made.append(f"ALTER EXTENSION {quote(there.name)} UPDATE TO {quote(wanted.definition['version'])}")
        if "schema" in differ:
            made.append(f"ALTER EXTENSION {quote(there.name)} SET SCHEMA {quote(wanted.definition['schema'])}")
        return made

    def rename(self, there: Object, wanted: Object) -> list[str]:
        """An extension keeps its name."""
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

    def create(self, wanted: Object, catalog: Catalog) -> list[str]:
        """Make it."""
        return [wanted.definition["text"], *self._target(wanted)]

    def drop(self, there: Object) -> list[str]:
        """Drop it."""
        return [f"DROP STATISTICS {there.quoted}"]

    def alter(self, there: Object, wanted: Object, catalog: Catalog) -> list[str] | None:
        """Set its target."""
        return self._target(wanted) if changed(there, wanted) == {"target"} else None

    def rename(self, there: Object, wanted: Object) -> list[str]:
        """Give it its name and schema."""
        return moved("STATISTICS", there, wanted)

    def _target(self, wanted: Object) -> list[str]:
        target = wanted.definition["target"]
        return [] if target is None else [f"ALTER STATISTICS {wanted.quoted} SET STATISTICS {target}"]
