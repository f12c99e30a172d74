"""Types that users define: enums, domains, composite types and ranges."""

from runbook_lib.postgres.changes.objects import USERS, Catalog, Kind, Object, changed, literal, of_no_extension, quote
from runbook_lib.postgres.changes.tables import moved


class Types(Kind):
    """Types by their parts."""

    name = "type"
    query = f"""
        SELECT t.oid::text AS id, (pg_identify_object('pg_type'::regclass, t.oid, 0)).identity AS address, '' AS parent,
               n.nspname::text AS schema, t.typname::text AS name,
               jsonb_build_object('owner', pg_get_userbyid(t.typowner), 'kind', t.typtype,
                   'labels', (SELECT jsonb_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_enum l
                              WHERE l.enumtypid = t.oid),
                   'base', CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
                   'not null', t.typnotnull, 'default', CASE WHEN t.typtype = 'd' THEN t.typdefault END,
                   'collation', CASE WHEN t.typtype = 'd' AND t.typcollation <> b.typcollation
                       THEN t.typcollation::regcollation::text END,
                   'checks', (SELECT jsonb_object_agg(k.conname, pg_get_constraintdef(k.oid)) FROM pg_constraint k
                              WHERE k.contypid = t.oid AND k.contype = 'c'),
                   'fields', (SELECT jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, a.atttypmod))
                                               ORDER BY a.attnum) FROM pg_attribute a
                              WHERE a.attrelid = t.typrelid AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped),
                   'subtype', (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid)
               ) AS definition,
               jsonb_build_object('label ids', (SELECT jsonb_object_agg(l.oid::text, l.enumlabel) FROM pg_enum l
                                                WHERE l.enumtypid = t.oid)) AS keeps
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
        LEFT JOIN pg_type b ON b.oid = t.typbasetype
        WHERE {USERS} AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c')
          AND {of_no_extension("pg_type", "t.oid")}
        ORDER BY t.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Make it."""
        of, name = expected.definition, expected.quoted
        match of["kind"]:
            case "e":
                return [f"CREATE TYPE {name} AS ENUM ({', '.join(map(literal, of['labels'] or []))})"]
            case "c":
                fields = ", ".join(f"{quote(field)} {kind}" for field, kind in of["fields"] or [])
                return [f"CREATE TYPE {name} AS ({fields})"]
            case "r":
                return [f"CREATE TYPE {name} AS RANGE (SUBTYPE = {of['subtype']})"]
        words = [f"CREATE DOMAIN {name} AS {of['base']}"]
        words += [f"COLLATE {of['collation']}"] if of["collation"] else []
        words += [f"DEFAULT {of['default']}"] if of["default"] else []
        words += ["NOT NULL"] if of["not null"] else []
        words += [f"CONSTRAINT {quote(check)} {text}" for check, text in (of["checks"] or {}).items()]
        return [" ".join(words)]

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"DROP {_what(actual)} {actual.quoted}"]

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Change it in place; enum labels cannot be removed, nor field types changed."""
        differ, of, made = changed(actual, expected), expected.definition, list[str]()
        if differ == {"labels"}:
            return _labels(actual, expected)
        if differ == {"fields"}:
            return _fields(actual, expected)
        if of["kind"] != "d" or differ - {"checks", "default", "not null"}:
            return None
        domain = f"ALTER DOMAIN {actual.quoted}"
        before, after = actual.definition["checks"] or {}, of["checks"] or {}
        made += [f"{domain} DROP CONSTRAINT {quote(name)}" for name in before if after.get(name) != before[name]]
        made += [f"{domain} ADD CONSTRAINT {quote(name)} {after[name]}" for name in after if after[name] != before.get(name)]
        if "default" in differ:
            made.append(f"{domain} SET DEFAULT {of['default']}" if of["default"] else f"{domain} DROP DEFAULT")
        if "not null" in differ:
            made.append(f"{domain} {'SET' if of['not null'] else 'DROP'} NOT NULL")
        return made

    def owned(self, actual: Object) -> str:
        """Return its name for ALTER."""
        return f"{_what(actual)} {actual.quoted}"

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it and move it to its schema."""
        return moved(_what(actual), actual, expected)


def relabelled(before: Object, after: Object) -> dict[str, str]:
    """Return an enum's labels that a change renamed: new -> old. Pure."""
    was, now = before.keeps.get("label ids") or {}, after.keeps.get("label ids") or {}
    return {now[oid]: was[oid] for oid in was if oid in now and now[oid] != was[oid]}


def _labels(actual: Object, expected: Object) -> list[str] | None:
    before, after = actual.definition["labels"] or [], expected.definition["labels"] or []
    if [label for label in after if label in before] != before:
        return None
    made, previous = list[str](), ""
    for label in after:
        if label not in before:
            first = next((other for other in after[after.index(label) + 1 :] if other in before), None)
            place = f" AFTER {literal(previous)}" if previous else f" BEFORE {literal(first)}" if first else ""
            made.append(f"ALTER TYPE {actual.quoted} ADD VALUE {literal(label)}{place}")
        previous = label
    return made


def _fields(actual: Object, expected: Object) -> list[str] | None:
    before, after = (dict(each.definition["fields"] or []) for each in (actual, expected))
    if [name for name in before if name in after and before[name] != after[name]]:
        return None
    made = [f"ALTER TYPE {actual.quoted} DROP ATTRIBUTE {quote(name)}" for name in before if name not in after]
    return made + [
        f"ALTER TYPE {actual.quoted} ADD ATTRIBUTE {quote(name)} {after[name]}" for name in after if name not in before
    ]


def _what(actual: Object) -> str:
    return "DOMAIN" if actual.definition["kind"] == "d" else "TYPE"
