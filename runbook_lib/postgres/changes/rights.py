"""Comments and rights on objects."""

from runbook_lib.postgres.changes.objects import KEY, Catalog, Kind, Object, literal

_COLUMN = ("table column", "view column", "materialized view column", "composite type column")
_CONSTRAINT = ("table constraint", "domain constraint")
_OWN = "('pg_catalog', 'information_schema', 'pg_toast', 'runbook')"


class Comments(Kind):
    """Comments on any object that users made."""

    name = "comment"
    query = f"""
        SELECT d.classoid || ':' || d.objoid || ':' || d.objsubid AS id, o.type || ' ' || o.identity AS address,
               {KEY.format("o")} AS parent, '' AS schema, '' AS name,
               jsonb_build_object('text', d.description) AS definition,
               jsonb_build_object('type', o.type, 'on', o.identity) AS keeps
        FROM pg_description d, LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) o
        WHERE o.identity IS NOT NULL AND coalesce(o.schema, '') NOT IN {_OWN} AND d.objoid >= 16384
          AND d.classoid <> 'pg_extension'::regclass
          AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
        ORDER BY 1"""  # OIDs below 16384 are PostgreSQL's own

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Write it."""
        return [f"COMMENT ON {_commented(expected)} IS {literal(expected.definition['text'])}"]

    def drop(self, actual: Object) -> list[str]:
        """Remove it."""
        return [f"COMMENT ON {_commented(actual)} IS NULL"]

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Write another."""
        return self.create(expected, catalog)

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Return nothing: a comment moves with its object."""
        return []


class Rights(Kind):
    """Granted privileges, a list for each role, except the owner's own."""

    name = "rights"
    query = f"""
        SELECT a.id, a.type || ' ' || a.identity AS address, {KEY.format("a")} AS parent, '' AS schema, '' AS name,
               jsonb_object_agg(a.grantee, a.privileges) AS definition, jsonb_build_object('on', a.what) AS keeps
        FROM (
            SELECT o.id, i.type, i.identity, o.what,
                   CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE e.grantee::regrole::text END AS grantee,
                   jsonb_agg(e.privilege_type || CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
                             ORDER BY e.privilege_type) AS privileges
            FROM (
                SELECT c.oid::text AS id, 'pg_class'::regclass AS class, c.oid AS oid, 0 AS sub, c.relowner,
                       coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
                           AS acl,
                       CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || c.oid::regclass AS what
                FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.oid >= 16384
                UNION ALL
                SELECT a.attrelid || ':' || a.attnum, 'pg_class'::regclass, a.attrelid, a.attnum, 0, a.attacl,
                       format('(%I) ON TABLE %s', a.attname, a.attrelid::regclass)
                FROM pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attacl IS NOT NULL
                UNION ALL
                SELECT p.oid::text, 'pg_proc'::regclass, p.oid, 0, p.proowner,
                       coalesce(p.proacl, acldefault('f', p.proowner)),
                       CASE p.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END || p.oid::regprocedure
                FROM pg_proc p WHERE p.prokind <> 'a' AND p.oid >= 16384
                UNION ALL
                SELECT n.oid::text, 'pg_namespace'::regclass, n.oid, 0, n.nspowner,
                       coalesce(n.nspacl, acldefault('n', n.nspowner)), 'SCHEMA ' || n.oid::regnamespace
                FROM pg_namespace n WHERE n.nspname <> 'public'
                UNION ALL
                SELECT t.oid::text, 'pg_type'::regclass, t.oid, 0, t.typowner,
                       coalesce(t.typacl, acldefault('T', t.typowner)),
                       'TYPE ' || t.oid::regtype
                FROM pg_type t WHERE t.oid >= 16384 AND (t.typtype IN ('d', 'e', 'r') OR t.typtype = 'c' AND EXISTS (
                    SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))) o,
                LATERAL pg_identify_object(o.class, o.oid, o.sub) i, LATERAL aclexplode(o.acl) e
            WHERE e.grantee <> o.relowner AND coalesce(i.schema, i.name, '') NOT IN {_OWN}
              AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = o.class AND x.objid = o.oid AND x.deptype = 'e')
            GROUP BY 1, 2, 3, 4, 5) a
        GROUP BY 1, 2, 3, 4, 5, 7
        ORDER BY 1"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Grant all of them."""
        return _difference(expected, {}, expected.definition)

    def drop(self, actual: Object) -> list[str]:
        """Revoke all of them."""
        return _difference(actual, actual.definition, {})

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Grant and revoke what differs."""
        return _difference(actual, actual.definition, expected.definition)

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Return nothing: rights move with their object."""
        return []


def _commented(each: Object) -> str:
    of = each.keeps["type"]
    if of in _COLUMN:
        return f"COLUMN {each.keeps['on']}"
    if of in _CONSTRAINT:
        return f"CONSTRAINT {each.keeps['on']}"
    return f"{'STATISTICS' if of == 'statistics object' else of.upper()} {each.keeps['on']}"


def _difference(each: Object, before: object, after: object) -> list[str]:
    assert isinstance(before, dict) and isinstance(after, dict)
    on, made = each.keeps["on"], list[str]()
    column, _, table = on.partition(" ON TABLE ") if on.startswith("(") else ("", "", "")
    place = f"TABLE {table}" if column else on

    def listed(privilege: str) -> tuple[str, str]:
        word, _, option = privilege.partition(" WITH ")
        return f"{word}{' ' + column if column else ''}", f" WITH {option}" if option else ""

    for role in {**before, **after}:
        have, want = before.get(role, []), after.get(role, [])
        made += [f"REVOKE {listed(p)[0]} ON {place} FROM {role}" for p in have if p not in want]
        made += [f"GRANT {listed(p)[0]} ON {place} TO {role}{listed(p)[1]}" for p in want if p not in have]
    return made
