"""Views and materialized views."""

from runbook_lib.postgres.changes.objects import USERS, Catalog, Kind, Object, changed, of_no_extension
from runbook_lib.postgres.changes.tables import moved


class Views(Kind):
    """Views by their text; a materialized view's rows are computed again."""

    name = "view"
    query = f"""
        SELECT c.oid::text AS id, (pg_identify_object('pg_class'::regclass, c.oid, 0)).identity AS address, '' AS parent,
               n.nspname::text AS schema, c.relname::text AS name,
               jsonb_build_object('owner', pg_get_userbyid(c.relowner),
                   'kind', c.relkind, 'text', pg_get_viewdef(c.oid), 'options', to_jsonb(c.reloptions),
                   'filled', c.relispopulated) AS definition,
               jsonb_build_object('columns', (
                   SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                   WHERE a.attrelid = c.oid AND a.attnum > 0)) AS keeps
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {USERS} AND c.relkind IN ('v', 'm') AND {of_no_extension("pg_class", "c.oid")}
        ORDER BY c.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Make it."""
        of = expected.definition
        options = f" WITH ({', '.join(of['options'])})" if of["options"] else ""
        text = of["text"].rstrip().rstrip(";")
        if of["kind"] == "m":
            data = "" if of["filled"] else " WITH NO DATA"
            return [f"CREATE MATERIALIZED VIEW {expected.quoted} ({expected.keeps['columns']}){options} AS {text}{data}"]
        return [f"CREATE VIEW {expected.quoted} ({expected.keeps['columns']}){options} AS {text}"]

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"DROP {_what(actual)} {actual.quoted}"]

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Replace a view whose columns stay the same; any other must be recreated."""
        if changed(actual, expected) != {"text"} or expected.definition["kind"] == "m":
            return None
        if actual.keeps["columns"] != expected.keeps["columns"]:
            return None
        return [each.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1) for each in self.create(expected, catalog)]

    def owned(self, actual: Object) -> str:
        """Return its name for ALTER."""
        return f"{_what(actual)} {actual.quoted}"

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it and move it to its schema."""
        return moved(_what(actual), actual, expected)


def _what(actual: Object) -> str:
    return "MATERIALIZED VIEW" if actual.definition["kind"] == "m" else "VIEW"
