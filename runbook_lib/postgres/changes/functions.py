"""Functions and procedures."""

from runbook_lib.postgres.changes.objects import USERS, Catalog, Kind, Object, changed, of_no_extension, quote


class Functions(Kind):
    """Functions, procedures and window functions, by their whole text."""

    name = "function"
    query = f"""
        SELECT p.oid::text AS id, (pg_identify_object('pg_proc'::regclass, p.oid, 0)).identity AS address, '' AS parent,
               n.nspname::text AS schema, p.proname::text AS name,
               jsonb_build_object('owner', pg_get_userbyid(p.proowner),
                   'text', regexp_replace(pg_get_functiondef(p.oid), '\\s+', ' ', 'g'),
                   'result', pg_get_function_result(p.oid), 'arguments', pg_get_function_arguments(p.oid)) AS definition,
               jsonb_build_object('text', pg_get_functiondef(p.oid), 'procedure', p.prokind = 'p',
                   'arguments', pg_get_function_identity_arguments(p.oid)) AS keeps
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {USERS} AND p.prokind <> 'a' AND {of_no_extension("pg_proc", "p.oid")}
        ORDER BY p.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Make it."""
        return [expected.keeps["text"]]

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"DROP {_what(actual)} {_signature(actual, actual.quoted)}"]

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Replace it if its arguments and its result stay the same."""
        return None if {"result", "arguments"} & changed(actual, expected) else [expected.keeps["text"]]

    def owned(self, actual: Object) -> str:
        """Return its name for ALTER."""
        return f"{_what(actual)} {_signature(actual, actual.quoted)}"

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it and move it to its schema."""
        made, now = list[str](), actual.quoted
        if actual.schema != expected.schema:
            made.append(f"ALTER {_what(actual)} {_signature(actual, now)} SET SCHEMA {quote(expected.schema)}")
            now = f"{quote(expected.schema)}.{quote(actual.name)}"
        if actual.name != expected.name:
            made.append(f"ALTER {_what(actual)} {_signature(actual, now)} RENAME TO {quote(expected.name)}")
        return made


def _what(actual: Object) -> str:
    return "PROCEDURE" if actual.keeps["procedure"] else "FUNCTION"


def _signature(actual: Object, name: str) -> str:
    return f"{name}({actual.keeps['arguments']})"
