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

    def create(self, wanted: Object, catalog: Catalog) -> list[str]:
        """Make it."""
        return [wanted.keeps["text"]]

    def drop(self, there: Object) -> list[str]:
        """Drop it."""
        return [f"DROP {_what(there)} {_signature(there, there.quoted)}"]

    def alter(self, there: Object, wanted: Object, catalog: Catalog) -> list[str] | None:
        """Replace it where its arguments and its result stay."""
        return None if {"result", "arguments"} & changed(there, wanted) else [wanted.keeps["text"]]

    def owned(self, there: Object) -> str:
        """What ALTER calls it."""
        return f"{_what(there)} {_signature(there, there.quoted)}"

    def rename(self, there: Object, wanted: Object) -> list[str]:
        """Give it its name and schema."""
        made, now = list[str](), there.quoted
        if there.schema != wanted.schema:
            made.append(f"ALTER {_what(there)} {_signature(there, now)} SET SCHEMA {quote(wanted.schema)}")
            now = f"{quote(wanted.schema)}.{quote(there.name)}"
        if there.name != wanted.name:
            made.append(f"ALTER {_what(there)} {_signature(there, now)} RENAME TO {quote(wanted.name)}")
        return made


def _what(there: Object) -> str:
    return "PROCEDURE" if there.keeps["procedure"] else "FUNCTION"


def _signature(there: Object, name: str) -> str:
    return f"{name}({there.keeps['arguments']})"
