"""Columns of tables: type, default, NOT NULL, identity, generation, storage."""

from runbook_lib.postgres.changes.objects import USERS, Catalog, Kind, Object, changed, literal, of_no_extension, quote
from runbook_lib.postgres.changes.tables import identity_of, inline

REPLACED = "runbook"  # the schema of a type that is being replaced
STORAGE = {"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}
COMPRESSION = {"p": "pglz", "l": "lz4"}


class Columns(Kind):
    """Columns; their position is not part of their definition."""

    name = "column"
    query = f"""
        SELECT a.attrelid || ':' || a.attnum AS id,
               format('%I.%I.%I', n.nspname, c.relname, a.attname) AS address,
               format('table %I.%I', n.nspname, c.relname) AS parent,
               n.nspname::text AS schema, a.attname::text AS name,
               jsonb_build_object('type', format_type(a.atttypid, a.atttypmod), 'not null', a.attnotnull,
                   'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
                   'generated', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END,
                   'virtual', a.attgenerated = 'v', 'identity', nullif(a.attidentity::text, ''),
                   'sequence', CASE WHEN a.attidentity <> '' THEN (
                       SELECT jsonb_build_object('START WITH', q.seqstart, 'INCREMENT BY', q.seqincrement,
                           'MINVALUE', q.seqmin, 'MAXVALUE', q.seqmax, 'CACHE', q.seqcache,
                           'SEQUENCE NAME', s.oid::regclass::text)
                       FROM pg_depend o JOIN pg_class s ON s.oid = o.objid JOIN pg_sequence q ON q.seqrelid = s.oid
                       WHERE o.classid = 'pg_class'::regclass AND o.refclassid = 'pg_class'::regclass
                         AND o.refobjid = c.oid AND o.refobjsubid = a.attnum AND o.deptype = 'i') END,
                   'collation', CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END,
                   'storage', CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END,
                   'compression', nullif(a.attcompression::text, ''),
                   'statistics', nullif(a.attstattarget, -1), 'options', to_jsonb(a.attoptions)) AS definition,
               jsonb_build_object('local', a.attislocal, 'table', format('%I.%I', n.nspname, c.relname),
                   'missing', a.attmissingval::text, 'place', a.attnum) AS keeps
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE {USERS} AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
          AND {of_no_extension("pg_class", "c.oid")}
        ORDER BY a.attrelid, a.attnum"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Add it; it stays empty if it must be filled before it can be NOT NULL."""
        table = expected.keeps["table"]
        made = [f"ALTER TABLE {table} ADD COLUMN {inline(expected)}"]
        return made + _details(table, expected)

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"ALTER TABLE {actual.keeps['table']} DROP COLUMN {quote(actual.name)}"]

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Change it in place; a generation expression cannot change."""
        differ = changed(actual, expected)
        if {"generated", "virtual"} & differ:
            return None
        column = f"ALTER TABLE {actual.keeps['table']} ALTER COLUMN {quote(actual.name)}"
        of, made = expected.definition, list[str]()
        if "default" in differ and actual.definition["default"]:
            made.append(f"{column} DROP DEFAULT")
        if "identity" in differ and actual.definition["identity"] and not of["identity"]:
            made.append(f"{column} DROP IDENTITY")
        if "not null" in differ and not of["not null"]:
            made.append(f"{column} DROP NOT NULL")
        if "type" in differ or "collation" in differ:
            collation = f" COLLATE {of['collation']}" if of["collation"] else ""
            using = expected.keeps.get("using") or f"{quote(actual.name)}{through_text(actual)}::{of['type']}"
            made.append(f"{column} TYPE {of['type']}{collation} USING {using}")
        if "not null" in differ and of["not null"]:
            made.append(f"{column} SET NOT NULL")
        if "identity" in differ and of["identity"]:
            if actual.definition["identity"]:
                made.append(f"{column} SET GENERATED {'ALWAYS' if of['identity'] == 'a' else 'BY DEFAULT'}")
            else:
                made.append(f"{column} ADD {identity_of(of)}")
        elif "sequence" in differ and of["identity"] and actual.definition["identity"]:
            made += _sequence(column, actual, expected)
        if "default" in differ and of["default"]:
            made.append(f"{column} SET DEFAULT {of['default']}")
        details = {"storage", "compression", "statistics", "options"} & differ
        return made + (_details(actual.keeps["table"], expected, actual) if details else [])

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it; `actual` names its table as it is called now."""
        return [f"ALTER TABLE {actual.keeps['table']} RENAME COLUMN {quote(actual.name)} TO {quote(expected.name)}"]


def through_text(actual: Object) -> str:
    """Return the cast to text that a value needs before its cast to another type of the same name. Pure."""
    if not actual.definition["type"].startswith(f"{REPLACED}."):
        return ""
    return "::text[]" if actual.definition["type"].endswith("[]") else "::text"


def _sequence(column: str, actual: Object, expected: Object) -> list[str]:
    before, after = actual.definition["sequence"], expected.definition["sequence"]
    differ = [name for name in after if after[name] != before.get(name) and name != "SEQUENCE NAME"]
    return [f"{column} {' '.join(f'SET {name} {after[name]}' for name in differ)}"] if differ else []


def _details(table: str, expected: Object, actual: Object | None = None) -> list[str]:
    of, was = expected.definition, actual.definition if actual else {}
    column, made = f"ALTER TABLE {table} ALTER COLUMN {quote(expected.name)}", list[str]()
    if of["storage"] != was.get("storage"):
        made.append(f"{column} SET STORAGE {STORAGE[of['storage']] if of['storage'] else 'DEFAULT'}")
    if of["compression"] != was.get("compression"):
        made.append(f"{column} SET COMPRESSION {COMPRESSION.get(of['compression'], 'default')}")
    if of["statistics"] != was.get("statistics"):
        made.append(f"{column} SET STATISTICS {-1 if of['statistics'] is None else of['statistics']}")
    if (of["options"] or []) != (was.get("options") or []):
        before = {o.partition("=")[0] for o in was.get("options") or []}
        after = {o.partition("=")[0] for o in of["options"] or []}
        if before - after:
            made.append(f"{column} RESET ({', '.join(sorted(before - after))})")
        if after:
            pairs = (each.partition("=") for each in of["options"])
            made.append(f"{column} SET ({', '.join(f'{name} = {literal(value)}' for name, _, value in pairs)})")
    return made
