"""Tables, plain and partitioned, without their columns."""

from runbook_lib.postgres.changes.objects import USERS, Catalog, Kind, Object, changed, literal, of_no_extension, quote

_REPLICA = {"d": "DEFAULT", "n": "NOTHING", "f": "FULL"}


class Tables(Kind):
    """Tables; columns, constraints and the rest are separate objects."""

    name = "table"
    query = f"""
        SELECT c.oid::text AS id, (pg_identify_object('pg_class'::regclass, c.oid, 0)).identity AS address, '' AS parent,
               n.nspname::text AS schema, c.relname::text AS name,
               jsonb_build_object('owner', pg_get_userbyid(c.relowner),
                   'kind', c.relkind, 'persistence', c.relpersistence, 'options', to_jsonb(c.reloptions),
                   'partitioned by', pg_get_partkeydef(c.oid), 'bound', pg_get_expr(c.relpartbound, c.oid),
                   'inherits', (SELECT jsonb_agg(i.inhparent::regclass::text ORDER BY i.inhseqno) FROM pg_inherits i
                                WHERE i.inhrelid = c.oid),
                   'row security', c.relrowsecurity, 'forced', c.relforcerowsecurity,
                   'replica identity', CASE c.relreplident WHEN 'i' THEN (
                       SELECT i.indexrelid::regclass::text FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
                       ELSE c.relreplident::text END,
                   'access method', (SELECT a.amname FROM pg_am a WHERE a.oid = c.relam)) AS definition,
               jsonb_build_object('partition', c.relispartition,
                   'belongs', pg_get_partition_constraintdef(c.oid)) AS keeps
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {USERS} AND c.relkind IN ('r', 'p') AND {of_no_extension("pg_class", "c.oid")}
        ORDER BY c.oid"""

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Create it with its columns, without defaults; attach a partition."""
        of = expected.definition
        unlogged = "UNLOGGED " if of["persistence"] == "u" else ""
        inherits = [] if of["bound"] else of["inherits"] or []
        columns = ", ".join(
            inline(each) for each in catalog.parts(expected, "column") if each.keeps["local"] or expected.keeps["partition"]
        )
        statement = f"CREATE {unlogged}TABLE {expected.quoted} ({columns})"
        if inherits:
            statement += f" INHERITS ({', '.join(inherits)})"
        if of["partitioned by"]:
            statement += f" PARTITION BY {of['partitioned by']}"
        if of["access method"] not in (None, "heap"):
            statement += f" USING {quote(of['access method'])}"
        if of["options"]:
            statement += f" WITH ({_options(of['options'])})"
        made = [statement, *_security(expected)]
        if of["bound"]:
            made.append(f"ALTER TABLE {of['inherits'][0]} ATTACH PARTITION {expected.quoted} {of['bound']}")
        return made

    def drop(self, actual: Object) -> list[str]:
        """Drop it."""
        return [f"DROP TABLE {actual.quoted}"]

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Change settings in place; a plain table cannot become a partitioned one."""
        differ = changed(actual, expected)
        if differ - {"persistence", "options", "row security", "forced", "replica identity", "bound", "inherits"}:
            return None
        table, of, made = f"ALTER TABLE {actual.quoted}", expected.definition, list[str]()
        if "persistence" in differ:
            made.append(f"{table} SET {'UNLOGGED' if of['persistence'] == 'u' else 'LOGGED'}")
        if "options" in differ:
            before = {o.partition("=")[0] for o in actual.definition["options"] or []}
            after = {o.partition("=")[0] for o in of["options"] or []}
            if gone := before - after:
                made.append(f"{table} RESET ({', '.join(sorted(gone))})")
            if after:
                made.append(f"{table} SET ({_options(of['options'])})")
        if "row security" in differ or "forced" in differ:
            made += _security(expected)
        if "replica identity" in differ:
            how = of["replica identity"]
            made.append(f"{table} REPLICA IDENTITY {_REPLICA.get(how, f'USING INDEX {how.rpartition(chr(46))[2]}')}")
        if {"bound", "inherits"} & differ:
            made += [
                f"ALTER TABLE {parent} DETACH PARTITION {actual.quoted}"
                for parent in actual.definition["inherits"] or []
                if actual.definition["bound"]
            ]
            made += [
                f"ALTER TABLE {parent} ATTACH PARTITION {actual.quoted} {of['bound']}"
                for parent in of["inherits"] or []
                if of["bound"]
            ]
        return made

    def owned(self, actual: Object) -> str:
        """Return its name for ALTER."""
        return f"TABLE {actual.quoted}"

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Rename it and move it to its schema."""
        return moved("TABLE", actual, expected)


def moved(what: str, actual: Object, expected: Object) -> list[str]:
    """Build the statements that rename an object and move it to its schema. Pure."""
    made, now = list[str](), actual.quoted
    if actual.schema != expected.schema:
        made.append(f"ALTER {what} {now} SET SCHEMA {quote(expected.schema)}")
        now = f"{quote(expected.schema)}.{quote(actual.name)}"
    if actual.name != expected.name:
        made.append(f"ALTER {what} {now} RENAME TO {quote(expected.name)}")
    return made


def inline(column: Object) -> str:
    """Return a column's SQL for CREATE TABLE and ADD COLUMN, without its default. Pure."""
    of = column.definition
    words = [quote(column.name), of["type"]]
    if of["collation"]:
        words.append(f"COLLATE {of['collation']}")
    if of["generated"]:
        words.append(f"GENERATED ALWAYS AS ({of['generated']}) {'VIRTUAL' if of['virtual'] else 'STORED'}")
    if of["identity"]:
        words.append(identity_of(of))
    if of["not null"]:
        words.append("NOT NULL")
    return " ".join(words)


def identity_of(of: object) -> str:
    """Return the SQL of a column's identity. Pure."""
    assert isinstance(of, dict)
    when = {"a": "ALWAYS", "d": "BY DEFAULT"}[of["identity"]]
    options = " ".join(f"{name} {value}" for name, value in (of["sequence"] or {}).items() if value is not None)
    return f"GENERATED {when} AS IDENTITY ({options})" if options else f"GENERATED {when} AS IDENTITY"


def _security(expected: Object) -> list[str]:
    of, table = expected.definition, f"ALTER TABLE {expected.quoted}"
    return [
        f"{table} {'ENABLE' if of['row security'] else 'DISABLE'} ROW LEVEL SECURITY",
        f"{table} {'FORCE' if of['forced'] else 'NO FORCE'} ROW LEVEL SECURITY",
    ]


def _options(options: list[str]) -> str:
    return ", ".join(f"{name} = {literal(value)}" for name, _, value in (each.partition("=") for each in options))
