"""List every object in a database's schemas, so that two databases can be compared."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA

RIGHTS, OWNER = "rights on ", "owner of "  # prefixes of the entries for rights and owners


@dataclass(frozen=True)
class Item:
    """An object as the catalog defines it; `part_of` names the object it belongs to, "" for an independent one."""

    definition: str
    part_of: str = ""


Objects = Mapping[str, Item]  # "kind schema.name"; for a part "kind schema.table name"

# For each object: its address in the catalog, its table (0: none), its name, the object it is part of, its definition,
# its owner and its rights (`acltype` is the letter of acldefault). {user} keeps to the users' schemas.
_SELECTS = {
    "schema": """
SELECT 'pg_namespace'::regclass, n.oid, 0, 0::oid, 'schema ' || n.nspname, '', '', n.nspowner, n.nspacl, 'n'
FROM pg_namespace n WHERE {user}""",
    "extension": """
SELECT 'pg_extension'::regclass, e.oid, 0, 0::oid, 'extension ' || e.extname, '',
       'in schema ' || e.extnamespace::regnamespace, 0::oid, NULL, NULL
FROM pg_extension e WHERE e.extname <> 'plpgsql'""",
    "relation": """
SELECT 'pg_class'::regclass, c.oid, 0, c.oid,
       {relation}, '',
       concat_ws(' ', CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED' END, 'PARTITION BY ' || pg_get_partkeydef(c.oid),
           pg_get_expr(c.relpartbound, c.oid),
           'OF ' || (SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno)
               FROM pg_inherits i WHERE i.inhrelid = c.oid),
           'WITH ' || c.reloptions::text, CASE WHEN c.relrowsecurity THEN 'ROW LEVEL SECURITY' END,
           CASE WHEN c.relforcerowsecurity THEN 'FORCED' END,
           'REPLICA IDENTITY ' || nullif(CASE WHEN c.relkind IN ('r', 'p') THEN c.relreplident::text ELSE 'd' END, 'd'),
           CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
           (SELECT 'SERVER ' || s.srvname || ' ' || coalesce(f.ftoptions::text, '') FROM pg_foreign_table f
               JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid)),
       c.relowner, c.relacl, 'r'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {user} AND c.relkind IN ('r', 'p', 'v', 'm', 'f')""",
    "column": """
SELECT 'pg_class'::regclass, c.oid, a.attnum::int, c.oid, 'column ' || n.nspname || '.' || c.relname || ' ' || a.attname,
       {relation},
       CASE WHEN c.relkind IN ('v', 'm') THEN format_type(a.atttypid, a.atttypmod)
       ELSE concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'NOT NULL' END,
           CASE a.attgenerated WHEN '' THEN 'DEFAULT ' ELSE 'GENERATED ' || a.attgenerated::text || ' ' END
               || pg_get_expr(d.adbin, d.adrelid),
           CASE a.attidentity WHEN 'a' THEN 'IDENTITY ALWAYS' WHEN 'd' THEN 'IDENTITY BY DEFAULT' END,
           (SELECT 'COLLATE ' || k.collname FROM pg_collation k WHERE k.oid = a.attcollation AND k.oid <> t.typcollation),
           CASE WHEN a.attstorage <> t.typstorage THEN 'STORAGE ' || a.attstorage::text END,
           CASE WHEN a.attcompression <> '' THEN 'COMPRESSION ' || a.attcompression::text END,
           'STATISTICS ' || nullif(a.attstattarget, -1)::text, a.attoptions::text) END,
       0::oid, a.attacl, 'c'
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE {user} AND c.relkind IN ('r', 'p', 'f', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped""",
    "constraint": """
SELECT 'pg_constraint'::regclass, k.oid, 0, k.conrelid, 'constraint '
       || n.nspname || '.' || coalesce(c.relname, t.typname) || ' ' || k.conname,
       CASE WHEN k.conrelid = 0 THEN 'type ' ELSE 'table ' END || n.nspname || '.' || coalesce(c.relname, t.typname),
       pg_get_constraintdef(k.oid), 0::oid, NULL, NULL
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace LEFT JOIN pg_class c ON c.oid = k.conrelid
LEFT JOIN pg_type t ON t.oid = k.contypid
WHERE {user} AND k.contype NOT IN ('n', 't') AND k.conparentid = 0""",
    "index": """
SELECT 'pg_class'::regclass, x.oid, 0, c.oid, 'index ' || n.nspname || '.' || c.relname || ' ' || x.relname,
       {relation},
       pg_get_indexdef(x.oid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
       || CASE WHEN i.indisclustered THEN ' CLUSTERED' ELSE '' END
       || CASE WHEN i.indisreplident THEN ' REPLICA IDENTITY' ELSE '' END, 0::oid, NULL, NULL
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {user} AND NOT x.relispartition
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.oid AND k.contype IN ('p', 'u', 'x'))""",
    "sequence": """
SELECT 'pg_class'::regclass, c.oid, 0, coalesce(t.oid, c.oid), 'sequence ' || n.nspname || '.' || c.relname,
       coalesce('column ' || tn.nspname || '.' || t.relname || ' ' || a.attname, ''),
       format('%s INCREMENT %s MIN %s MAX %s START %s CACHE %s CYCLE %s', s.seqtypid::regtype, s.seqincrement, s.seqmin,
           s.seqmax, s.seqstart, s.seqcache, s.seqcycle), c.relowner, c.relacl, 's'
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend o ON o.classid = 'pg_class'::regclass AND o.objid = c.oid AND o.deptype IN ('a', 'i')
    AND o.refclassid = 'pg_class'::regclass AND o.refobjsubid > 0
LEFT JOIN pg_class t ON t.oid = o.refobjid LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = o.refobjsubid
WHERE {user}""",
    "type": """
SELECT 'pg_type'::regclass, t.oid, 0, 0::oid, 'type ' || n.nspname || '.' || t.typname, '',
       CASE t.typtype
       WHEN 'e' THEN 'ENUM ' || (SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder)
           FROM pg_enum l WHERE l.enumtypid = t.oid)
       WHEN 'd' THEN concat_ws(' ', 'DOMAIN', format_type(t.typbasetype, t.typtypmod),
           CASE WHEN t.typnotnull THEN 'NOT NULL' END, 'DEFAULT ' || t.typdefault)
       WHEN 'r' THEN 'RANGE ' || (SELECT r.rngsubtype::regtype::text FROM pg_range r WHERE r.rngtypid = t.oid)
       ELSE 'COMPOSITE ' || coalesce((SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', '
           ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '')
       END, t.typowner, t.typacl, 'T'
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE {user}
  AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND c.relkind = 'c' OR t.typtype = 'b' AND t.typelem = 0)""",
    "function": """
SELECT 'pg_proc'::regclass, p.oid, 0, 0::oid,
       CASE p.prokind WHEN 'a' THEN 'aggregate ' WHEN 'p' THEN 'procedure ' ELSE 'function ' END
       || n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', '',
       CASE WHEN p.prokind = 'a' THEN (
           SELECT concat_ws(' ', g.aggtransfn, g.aggtranstype::regtype, g.aggfinalfn, g.agginitval) FROM pg_aggregate g
           WHERE g.aggfnoid = p.oid) ELSE pg_get_functiondef(p.oid) END, p.proowner, p.proacl, 'f'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {user}""",
    "trigger": """
SELECT 'pg_trigger'::regclass, g.oid, 0, c.oid, 'trigger ' || n.nspname || '.' || c.relname || ' ' || g.tgname,
       {relation},
       pg_get_triggerdef(g.oid) || CASE g.tgenabled WHEN 'O' THEN '' ELSE ' ENABLED ' || g.tgenabled::text END,
       0::oid, NULL, NULL
FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {user} AND NOT g.tgisinternal AND g.tgparentid = 0""",
    "policy": """
SELECT 'pg_policy'::regclass, p.oid, 0, c.oid, 'policy ' || n.nspname || '.' || c.relname || ' ' || p.polname,
       'table ' || n.nspname || '.' || c.relname,
       concat_ws(' ', CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, 'FOR ' || p.polcmd::text, 'TO '
           || (SELECT string_agg(CASE r WHEN 0 THEN 'public' ELSE r::regrole::text END, ', ' ORDER BY r::regrole::text)
               FROM unnest(p.polroles) r),
           'USING ' || pg_get_expr(p.polqual, p.polrelid), 'WITH CHECK ' || pg_get_expr(p.polwithcheck, p.polrelid)),
       0::oid, NULL, NULL
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {user}""",
    "rule": """
SELECT 'pg_rewrite'::regclass, r.oid, 0, c.oid, 'rule ' || n.nspname || '.' || c.relname || ' ' || r.rulename,
       {relation},
       pg_get_ruledef(r.oid) || CASE r.ev_enabled WHEN 'O' THEN '' ELSE ' ENABLED ' || r.ev_enabled::text END,
       0::oid, NULL, NULL
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {user} AND r.rulename <> '_RETURN'""",
    "statistics": """
SELECT 'pg_statistic_ext'::regclass, s.oid, 0, c.oid, 'statistics ' || n.nspname || '.' || s.stxname,
       'table ' || tn.nspname || '.' || c.relname, pg_get_statisticsobjdef(s.oid), s.stxowner, NULL, NULL
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace JOIN pg_class c ON c.oid = s.stxrelid
JOIN pg_namespace tn ON tn.oid = c.relnamespace WHERE {user}""",
    "default rights": """
SELECT 'pg_default_acl'::regclass, d.oid, 0, 0::oid, 'default rights of ' || d.defaclrole::regrole || ' on '
       || d.defaclobjtype::text || coalesce(' in ' || nullif(d.defaclnamespace, 0)::regnamespace::text, ''), '', '',
       0::oid, d.defaclacl, NULL
FROM pg_default_acl d""",
}
_FIRST_OF_USERS = 16384  # the first OID that a new database does not use
# Catalogs whose objects are compared by their identity and some of their columns.
_OTHERS = {
    "pg_operator": "concat_ws(' ', o.oprcode, o.oprcom::regoperator, o.oprnegate::regoperator, o.oprrest, o.oprjoin)",
    "pg_opclass": "concat_ws(' ', o.opcdefault, o.opckeytype::regtype)",
    "pg_opfamily": "''",
    "pg_cast": "concat_ws(' ', o.castfunc::regprocedure, o.castcontext, o.castmethod)",
    "pg_collation": "concat_ws(' ', o.collprovider, o.collisdeterministic, o.collcollate, o.collctype)",
    "pg_conversion": "concat_ws(' ', o.conproc, o.condefault)",
    "pg_ts_config": "o.cfgparser::text",
    "pg_ts_dict": "coalesce(o.dictinitoption, '')",
    "pg_foreign_data_wrapper": "coalesce(o.fdwoptions::text, '')",
    "pg_foreign_server": "concat_ws(' ', o.srvtype, o.srvversion, o.srvoptions)",
    "pg_language": "concat_ws(' ', o.lanpltrusted, o.lanplcallfoid::regprocedure)",
    "pg_am": "o.amhandler::text",
    "pg_transform": "''",
}
_OTHER = """
SELECT '{catalog}'::regclass, o.oid, 0, 0::oid, i.type || ' ' || i.identity, '', {definition}, 0::oid, NULL, NULL
FROM {catalog} o, pg_identify_object('{catalog}'::regclass, o.oid, 0) i WHERE o.oid >= {first}"""
_COLUMNS = "(classid, objid, subid, relation, object, part_of, definition, owner, acl, acltype)"
_RELATION = """CASE c.relkind WHEN 'f' THEN 'foreign table ' WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view '
    ELSE 'table ' END || n.nspname || '.' || c.relname"""
_USER = f"""n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', '{OWN_SCHEMA}')
  AND n.nspname !~ '^pg_(temp|toast_temp)_'"""
_ALL = """
WITH found {columns} AS MATERIALIZED ({selects}),
own AS (SELECT * FROM found f WHERE NOT EXISTS (
    SELECT FROM pg_depend e WHERE e.deptype = 'e' AND (e.classid = f.classid AND e.objid = f.objid
        OR e.classid = 'pg_class'::regclass AND e.objid = f.relation)))
SELECT object, part_of, definition FROM own
UNION ALL SELECT 'comment on ' || object, object, d.description FROM own
    JOIN pg_description d ON d.classoid = own.classid AND d.objoid = own.objid AND d.objsubid = own.subid
UNION ALL SELECT '{owner}' || object, object, owner::regrole::text FROM own WHERE owner <> 0
UNION ALL SELECT '{rights}' || object, object, coalesce(r.them, 'nobody') FROM own, LATERAL (
    SELECT string_agg(format('%s: %s%s', CASE grantee WHEN 0 THEN 'public' ELSE grantee::regrole::text END, privilege_type,
        CASE WHEN is_grantable THEN ' with grant option' ELSE '' END), ', '
        ORDER BY grantee::regrole::text, privilege_type) AS them
    FROM aclexplode(coalesce(acl, acldefault(acltype::"char", owner)))) r
    WHERE acl IS NOT NULL OR acltype IS NOT NULL AND owner <> 0
ORDER BY 1
"""


def schema_objects(connection: Connection) -> dict[str, Item]:
    """Return every object of the users' schemas with comment, owner and rights, except the runbook's own. Read-only.

    Objects of an extension are left out with it. Publications, subscriptions and event triggers are not part of a
    schema-only copy.
    part of a schema-only copy.
    """
    selects = list(_SELECTS.values()) + [
        _OTHER.replace("{catalog}", catalog).replace("{definition}", definition) for catalog, definition in _OTHERS.items()
    ]
    query = _ALL.replace("{selects}", "\nUNION ALL ".join(selects)).replace("{columns}", _COLUMNS)
    for name, text in (
        ("first", str(_FIRST_OF_USERS)),
        ("user", _USER),
        ("relation", _RELATION),
        ("owner", OWNER),
        ("rights", RIGHTS),
    ):
        query = query.replace(f"{{{name}}}", text)
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        rows = connection.execute(query.encode())
        return {row["object"]: Item(row["definition"], row["part_of"]) for row in rows}


def with_wholes(objects: Objects, name: str) -> Iterator[str]:
    """Yield the object of that name, and what it is part of, from the inside out. Pure."""
    seen = set[str]()
    while name and name not in seen:
        seen.add(name)
        yield name
        name = objects[name].part_of if name in objects else ""


def without(objects: Objects, names: Collection[str]) -> dict[str, Item]:
    """Return the objects without some and all their parts. Pure."""
    return {name: item for name, item in objects.items() if not any(each in names for each in with_wholes(objects, name))}


def differences(before: Objects, now: Objects) -> dict[str, str]:
    """Map each differing object to how it differs; parts of an object that is itself listed are left out. Pure."""
    gone, added = before.keys() - now.keys(), now.keys() - before.keys()
    changed = {name for name in before.keys() & now.keys() if before[name].definition != now[name].definition}
    wholes = gone | added | {name for name in changed if name.startswith(("view ", "materialized view "))}
    found = {}
    for name in sorted(gone | added | changed):
        item = before[name] if name in gone else now[name]
        if item.part_of not in wholes:
            was, is_now = (_short(each[name].definition) if name in each else "" for each in (before, now))
            found[name] = "was added" if name in added else "is gone" if name in gone else f"was {was}, is {is_now}"
    return found


def _short(definition: str, width: int = 120) -> str:
    text = " ".join(definition.split())
    return text if len(text) <= width else text[: width - 1] + "…"
