"""Triggers, row security policies and rules."""

from runbook_lib.postgres.changes.objects import USERS, Catalog, Kind, Object, changed, of_no_extension, quote

_ENABLED = {"O": "ENABLE", "D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
_COMMANDS = {"*": "ALL", "r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}


class Triggers(Kind):
    """Triggers; a partition's belong to those of the partitioned table."""

    name = "trigger"
    query = f"""
        SELECT g.oid::text AS id, (pg_identify_object('pg_trigger'::regclass, g.oid, 0)).identity AS address,
               CASE WHEN c.relkind IN ('v', 'm') THEN 'view ' ELSE 'table ' END
                   || (pg_identify_object('pg_class'::regclass, c.oid, 0)).identity AS parent,
               n.nspname::text AS schema, g.tgname::text AS name,
               jsonb_build_object('text', pg_get_triggerdef(g.oid), 'enabled', g.tgenabled) AS definition,
               jsonb_build_object('table', format('%I.%I', n.nspname, c.relname)) AS keeps
        FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {USERS} AND NOT g.tgisinternal AND g.tgparentid = 0 AND {of_no_extension("pg_class", "c.oid")}
        ORDER BY g.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Make it."""
        made = [expected.definition["text"]]
        return made if expected.definition["enabled"] == "O" else made + _enabled(expected)

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"DROP TRIGGER {quote(actual.name)} ON {actual.keeps['table']}"]

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Enable or disable it."""
        return _enabled(expected) if changed(actual, expected) == {"enabled"} else None

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it."""
        return [f"ALTER TRIGGER {quote(actual.name)} ON {actual.keeps['table']} RENAME TO {quote(expected.name)}"]


class Policies(Kind):
    """Row security policies."""

    name = "policy"
    query = f"""
        SELECT p.oid::text AS id, (pg_identify_object('pg_policy'::regclass, p.oid, 0)).identity AS address,
               'table ' || (pg_identify_object('pg_class'::regclass, c.oid, 0)).identity AS parent,
               n.nspname::text AS schema, p.polname::text AS name,
               jsonb_build_object('command', p.polcmd, 'permissive', p.polpermissive,
                   'roles', (SELECT jsonb_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE r::regrole::text END ORDER BY 1)
                             FROM unnest(p.polroles) r),
                   'using', pg_get_expr(p.polqual, p.polrelid),
                   'check', pg_get_expr(p.polwithcheck, p.polrelid)) AS definition,
               jsonb_build_object('table', format('%I.%I', n.nspname, c.relname)) AS keeps
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {USERS} AND {of_no_extension("pg_class", "c.oid")}
        ORDER BY p.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Make it."""
        of = expected.definition
        words = [f"CREATE POLICY {quote(expected.name)} ON {expected.keeps['table']}"]
        words.append(f"AS {'PERMISSIVE' if of['permissive'] else 'RESTRICTIVE'} FOR {_COMMANDS[of['command']]}")
        words.append(f"TO {', '.join(of['roles'])}")
        words += [f"{word} ({of[name]})" for word, name in (("USING", "using"), ("WITH CHECK", "check")) if of[name]]
        return [" ".join(words)]

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"DROP POLICY {quote(actual.name)} ON {actual.keeps['table']}"]

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it."""
        return [f"ALTER POLICY {quote(actual.name)} ON {actual.keeps['table']} RENAME TO {quote(expected.name)}"]


class Rules(Kind):
    """Rewrite rules, except those that implement views."""

    name = "rule"
    query = f"""
        SELECT r.oid::text AS id, (pg_identify_object('pg_rewrite'::regclass, r.oid, 0)).identity AS address,
               CASE WHEN c.relkind IN ('v', 'm') THEN 'view ' ELSE 'table ' END
                   || (pg_identify_object('pg_class'::regclass, c.oid, 0)).identity AS parent,
               n.nspname::text AS schema, r.rulename::text AS name,
               jsonb_build_object('text', pg_get_ruledef(r.oid), 'enabled', r.ev_enabled) AS definition,
               jsonb_build_object('table', format('%I.%I', n.nspname, c.relname)) AS keeps
        FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {USERS} AND r.rulename <> '_RETURN' AND {of_no_extension("pg_class", "c.oid")}
        ORDER BY r.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Make it."""
        return [expected.definition["text"]]

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"DROP RULE {quote(actual.name)} ON {actual.keeps['table']}"]

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it."""
        return [f"ALTER RULE {quote(actual.name)} ON {actual.keeps['table']} RENAME TO {quote(expected.name)}"]


def _enabled(expected: Object) -> list[str]:
    how = _ENABLED[expected.definition["enabled"]]
    return [f"ALTER TABLE {expected.keeps['table']} {how} TRIGGER {quote(expected.name)}"]
