"""Reads objects of kinds that are never changed; a migration's changes to them are refused by name."""

from runbook_lib.postgres.changes.objects import Kind

_CATALOGS = {
    "pg_operator": "aggregate or operator",
    "pg_cast": "cast",
    "pg_collation": "collation",
    "pg_conversion": "conversion",
    "pg_event_trigger": "event trigger",
    "pg_foreign_data_wrapper": "foreign-data wrapper",
    "pg_foreign_server": "server",
    "pg_language": "language",
    "pg_opclass": "operator class",
    "pg_opfamily": "operator family",
    "pg_publication": "publication",
    "pg_publication_namespace": "publication of a schema",
    "pg_publication_rel": "publication of a table",
    "pg_transform": "transform",
    "pg_ts_config": "text search configuration",
    "pg_ts_dict": "text search dictionary",
    "pg_ts_parser": "text search parser",
    "pg_ts_template": "text search template",
    "pg_default_acl": "default rights",
}
_EACH = """
    SELECT o.oid::text AS id, '{word} ' || i.identity AS address, '' AS parent, '' AS schema, i.identity AS name,
           to_jsonb(o) - 'oid' AS definition, jsonb_build_object() AS keeps
    FROM {catalog} o, LATERAL pg_identify_object('{catalog}'::regclass, o.oid, 0) i
    WHERE o.oid >= 16384 AND i.identity IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_depend e WHERE e.classid = '{catalog}'::regclass AND e.objid = o.oid AND e.deptype = 'e')"""
_CLASSES = """
    SELECT c.oid::text, 'foreign table ' || i.identity, '', '', i.identity, to_jsonb(c.relname), jsonb_build_object()
    FROM pg_class c, LATERAL pg_identify_object('pg_class'::regclass, c.oid, 0) i WHERE c.relkind = 'f' AND c.oid >= 16384
    UNION ALL
    SELECT p.oid::text, 'aggregate ' || i.identity, '', '', i.identity, to_jsonb(p.proname), jsonb_build_object()
    FROM pg_proc p, LATERAL pg_identify_object('pg_proc'::regclass, p.oid, 0) i WHERE p.prokind = 'a' AND p.oid >= 16384
      AND NOT EXISTS (
          SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')"""


class Others(Kind):
    """Objects of all other kinds."""

    name = "other"
    query = " UNION ALL ".join([*(_EACH.format(catalog=c, word=w) for c, w in _CATALOGS.items()), _CLASSES])
