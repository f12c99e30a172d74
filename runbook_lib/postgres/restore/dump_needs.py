"""Find what a dump needs before it can be restored on a server: objects, and rights of our role.

The dump shows what each entry needs; the server shows which of that it lacks. An entry on which no table depends can be left
out, with all its dependents.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from pglast import ast, enums, parse_sql
from pglast.parser import ParseError
from pglast.visitors import Skip, Visitor

from runbook_lib.postgres import Connection
from runbook_lib.postgres.dump import OBJECT
from runbook_lib.postgres.restore.dump_inspector import SET_ROLE

LEAVABLE = {  # kinds of entries that the tables and rows do not need
    *("ACL", "DEFAULT ACL", "COMMENT", "SECURITY LABEL", "POLICY", "EVENT TRIGGER", "EXTENSION", "SUBSCRIPTION"),
    *("PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA"),
    *("FOREIGN DATA WRAPPER", "SERVER", "USER MAPPING", "FOREIGN TABLE"),
}
OF_SUPERUSER = {  # kinds that only a superuser can create
    *("EVENT TRIGGER", "FOREIGN DATA WRAPPER", "OPERATOR CLASS", "OPERATOR FAMILY", "ACCESS METHOD", "SECURITY LABEL"),
    *("TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "PUBLICATION TABLES IN SCHEMA"),
}
OF_OWNER = {
    "ACL",
    "COMMENT",
    "POLICY",
    "PUBLICATION",
    "SERVER",
    "USER MAPPING",
    "FOREIGN TABLE",
}  # only the owner can create these
OF_DATABASE = {"PUBLICATION"}  # kinds whose owner must have CREATE on the database
READ = {  # kinds whose statements show more than their kind
    *("ACL", "DEFAULT ACL", "POLICY", "USER MAPPING", "FUNCTION", "PROCEDURE", "COLLATION", "PUBLICATION", "CAST", "TYPE"),
    "PROCEDURAL LANGUAGE",
}
SHOWN = 3  # entries listed per need
OF_ONE_DATABASE = {"pg_cron": "cron.database_name"}  # extension -> the setting that names its only possible database


@dataclass(frozen=True)
class Need:
    """An object or right that must exist: its sort, and its name."""

    sort: str
    name: str


@dataclass(frozen=True)
class Section:
    """One entry of a dump's table of contents, with its SQL."""

    number: int
    kind: str
    name: str
    owner: str
    rests_on: frozenset[int]
    text: str
    tablespace: str = ""  # "" for the database's default

    def __str__(self) -> str:
        return f"{self.kind.lower() if self.kind != 'ACL' else 'grants on'} {self.name}"


@dataclass(frozen=True)
class Unmet:
    """A need that this server does not meet: the reason, the remedy, and the entries that cannot be created."""

    why: str
    entries: tuple[Section, ...]
    unknown: bool = False  # whether it could not be determined

    def __str__(self) -> str:
        more = f" and {len(self.entries) - SHOWN} more" if len(self.entries) > SHOWN else ""
        return f"{self.why} (for {', '.join(map(str, self.entries[:SHOWN]))}{more})"


@cache
def sections(schema: str) -> tuple[Section, ...]:
    """Parse the entries of a dump from its SQL. Pure."""
    heads = list(OBJECT.finditer(schema))
    ends = [head.start() for head in heads[1:]] + [len(schema)]
    found = []
    for head, end in zip(heads, ends, strict=True):
        begins = re.match(r"-- TOC entry (\d+) .*\n(?:-- Dependencies: (.*)\n)?", head[0])
        assert begins
        rests_on = frozenset(int(number) for number in (begins[2] or "").split())
        text = "\n".join(line for line in schema[head.end() : end].splitlines() if not line.startswith("\\"))
        section = Section(
            int(begins[1]), head["kind"], head["name"], head["owner"], rests_on, text, head["tablespace"] or ""
        )
        found.append(section)
    servers = {each.name: each.number for each in found if each.kind == "SERVER"}
    return tuple(_on_its_server(each, servers) if each.kind == "USER MAPPING" else each for each in found)


def _on_its_server(mapping: Section, servers: Mapping[str, int]) -> Section:
    """Return the user mapping with its server as a dependency, which a dump does not record."""
    numbers = {number for name, number in servers.items() if mapping.name.endswith(f" SERVER {name}")}
    return replace(mapping, rests_on=mapping.rests_on | numbers)


def needs(entries: Sequence[Section]) -> Mapping[Need, tuple[Section, ...]]:
    """Return what each entry needs of a server. Pure."""
    found: dict[Need, dict[int, Section]] = defaultdict(dict)
    for each in entries:
        for need in _of(each):
            found[need][each.number] = each
    return {need: tuple(of.values()) for need, of in found.items()}


def unmet(connection: Connection, entries: Sequence[Section]) -> list[Unmet]:
    """Return the needs that this server, or our role on it, does not meet. Read-only."""
    found = needs(entries)
    named = [[n.sort for n in found], [n.name for n in found], list(OF_ONE_DATABASE), list(OF_ONE_DATABASE.values())]
    why = {Need(row["sort"], row["name"]): row["why"] for row in connection.execute(_LACKS.encode(), named)}
    made = {need.name for need in found if need.sort == "extension"}
    lacks = [
        Unmet(why[need], of)
        for need, of in found.items()
        if need in why and not (need.sort == "language" and need.name in made)
    ]
    unread = [Unmet(f"{need.name} cannot be read", of, unknown=True) for need, of in found.items() if need.sort == "unread"]
    return lacks + unread


def left_out(entries: Sequence[Section], lacks: Sequence[Unmet]) -> tuple[list[Section], list[Unmet]]:
    """Return the entries to leave out, with all their dependents, and the needs that this cannot solve. Pure."""
    gone: dict[int, Section] = {}
    kept = []
    for each in lacks:
        closure = _with_dependents(entries, {entry.number for entry in each.entries})
        if each.unknown or any(entry.kind not in LEAVABLE for entry in closure):
            kept.append(each)
        else:
            gone |= {entry.number: entry for entry in closure}
    return list(gone.values()), kept


def extension_changes(connection: Connection, entries: Sequence[Section]) -> list[str]:
    """Return a line for each extension restored in another version than the live database has. Read-only."""
    names = [each.name for each in entries if each.kind == "EXTENSION"]
    rows = connection.execute(
        """SELECT format('the extension %%s becomes version %%s; the live database has %%s', name, default_version,
               installed_version) AS line FROM pg_available_extensions
           WHERE name = ANY (%s) AND installed_version <> default_version ORDER BY name""",
        [names],
    )
    return [row["line"] for row in rows]


def _with_dependents(entries: Sequence[Section], numbers: Collection[int]) -> list[Section]:
    found = set(numbers)
    while more := {each.number for each in entries if each.number not in found and each.rests_on & found}:
        found |= more
    return [each for each in entries if each.number in found]


def _of(entry: Section) -> Iterator[Need]:
    if entry.kind in OF_SUPERUSER:
        yield Need("superuser", f"the {entry.kind.lower()} {entry.name}")
    if entry.kind == "EXTENSION":
        yield Need("extension", entry.name)
    if entry.tablespace:
        yield Need("tablespace", entry.tablespace)
    if entry.kind in OF_DATABASE and entry.owner:
        yield Need("creator", entry.owner)
    if entry.kind in OF_OWNER and entry.owner:
        yield Need("owner", entry.owner)
    if entry.kind == "SUBSCRIPTION":
        yield Need("subscription", entry.name)
        return
    if not (entry.kind in READ or "COLLATE" in entry.text):
        return
    try:
        statements = [each.stmt for each in parse_sql(entry.text) if each.stmt]
    except ParseError:
        yield Need("unread", f"the SQL of {entry}")
        return
    for statement in statements:
        reading = _Names(entry)
        reading(statement)
        yield from reading.found


class _Names(Visitor):
    """Collects the names in a statement."""

    def __init__(self, entry: Section) -> None:
        super().__init__()
        self.entry, self.found = entry, list[Need]()

    def visit_RoleSpec(self, _: object, node: ast.RoleSpec) -> None:
        if node.rolename and self.entry.kind != "TABLE":
            self.found.append(Need("role", node.rolename))

    def visit_AlterOwnerStmt(self, _: object, __: object) -> object:
        return Skip  # owners are checked separately

    def visit_AlterTableStmt(self, _: object, node: ast.AlterTableStmt) -> object:
        return Skip if any(each.newowner for each in node.cmds or ()) else None

    def visit_AlterDefaultPrivilegesStmt(self, _: object, node: ast.AlterDefaultPrivilegesStmt) -> None:
        roles = [role.rolename for option in node.options or () if option.defname == "roles" for role in option.arg]
        self.found += [Need("member", name) for name in roles]

    def visit_VariableSetStmt(self, _: object, node: ast.VariableSetStmt) -> None:
        value = getattr(node.args[0].val, "sval", "") if node.args else ""
        if node.name == "session_authorization" and value:
            self.found.append(Need("session", value))

    def visit_CollateClause(self, _: object, node: ast.CollateClause) -> None:
        schema, *name = [part.sval for part in node.collname or ()]
        if schema == "pg_catalog":
            self.found.append(Need("collation", name[-1]))

    def visit_DefineStmt(self, _: object, node: ast.DefineStmt) -> None:
        given = {each.defname: each.arg for each in node.definition or ()}
        if node.kind == enums.ObjectType.OBJECT_TYPE and given:
            self.found.append(Need("superuser", f"the base type {self.entry.name}"))
        if self.entry.kind == "COLLATION" and "provider" in given:
            self.found.append(Need("provider", str(given["provider"].names[-1].sval)))

    def visit_CreateFunctionStmt(self, _: object, node: ast.CreateFunctionStmt) -> None:
        for option in node.options or ():
            if option.defname == "language":
                self.found.append(Need("language", option.arg.sval))
            if option.defname == "set" and option.arg.name:
                self.found.append(Need("setting", option.arg.name))
            if option.defname == "leakproof" and option.arg.boolval:
                self.found.append(Need("superuser", f"the LEAKPROOF function {self.entry.name}"))

    def visit_CreateCastStmt(self, _: object, node: ast.CreateCastStmt) -> None:
        if not node.func and not node.inout:
            self.found.append(Need("superuser", f"the cast {self.entry.name} WITHOUT FUNCTION"))

    def visit_CreatePublicationStmt(self, _: object, node: ast.CreatePublicationStmt) -> None:
        if node.for_all_tables:
            self.found.append(Need("superuser", f"the publication {node.pubname} FOR ALL TABLES"))

    def visit_CreatePLangStmt(self, _: object, node: ast.CreatePLangStmt) -> None:
        self.found.append(Need("superuser", f"the language {node.plname}"))


_LACKS = """
WITH n AS (SELECT * FROM unnest(%s::text[], %s::text[]) n(sort, name)),
one AS (SELECT * FROM unnest(%s::text[], %s::text[]) o(name, setting)),
me AS (SELECT rolsuper AS super FROM pg_roles WHERE rolname = current_user)
SELECT sort, name, format('the role %%s does not exist here: create it first', name) AS why FROM n
WHERE sort IN ('role', 'member') AND to_regrole(quote_ident(name)) IS NULL
UNION ALL SELECT sort, name, format('our role is not a member of %%s, whose default privileges these are', name) FROM n
WHERE sort = 'member' AND NOT pg_has_role(to_regrole(quote_ident(name))::oid, 'MEMBER')
UNION ALL SELECT sort, name, format('%%s has granted rights itself, which only a superuser can repeat', name) FROM n, me
WHERE sort = 'session' AND name <> current_user AND NOT super
UNION ALL SELECT sort, name, format('our role is not a member of %%s, who owns these', name) FROM n
WHERE sort = 'owner' AND coalesce(NOT pg_has_role(to_regrole(quote_ident(name))::oid, <set>), TRUE)
UNION ALL SELECT sort, name, format('%%s may not create in a new database, so it cannot own objects there', name)
FROM n, me, pg_database WHERE sort = 'creator' AND NOT super AND datname = current_database()
  AND NOT coalesce(pg_has_role(to_regrole(quote_ident(name))::oid, datdba, 'USAGE'), TRUE)
UNION ALL SELECT sort, name, format('our role may not set %%s, which a function sets', name) FROM n
WHERE sort = 'setting' AND EXISTS (SELECT FROM pg_settings s WHERE s.name = lower(n.name)
    AND s.context LIKE 'superuser%%' AND NOT has_parameter_privilege(s.name, 'SET'))
UNION ALL SELECT sort, name, CASE WHEN t.oid IS NULL THEN format('no tablespace %%s exists here: create it first', name)
    ELSE format('our role may not use the tablespace %%s: grant it CREATE', name) END
FROM n LEFT JOIN pg_tablespace t ON t.spcname = name
WHERE sort = 'tablespace' AND (t.oid IS NULL OR NOT has_tablespace_privilege(t.oid, 'CREATE'))
UNION ALL SELECT sort, name, format('the collation %%s is not on this server', name) FROM n
WHERE sort = 'collation' AND NOT EXISTS (
    SELECT FROM pg_collation WHERE collname = name AND collnamespace = 'pg_catalog'::regnamespace)
UNION ALL SELECT sort, name, format('this server has no collations of %%s', name) FROM n
WHERE sort = 'provider' AND NOT EXISTS (
    SELECT FROM pg_collation WHERE collprovider::text = CASE name WHEN 'icu' THEN 'i' WHEN 'builtin' THEN 'b' ELSE 'c' END)
UNION ALL SELECT sort, name, CASE WHEN l.oid IS NULL THEN format('the language %%s does not exist here', name)
    ELSE format('our role may not create functions in %%s', name) END
FROM n CROSS JOIN me LEFT JOIN pg_language l ON lanname = name
WHERE sort = 'language' AND NOT super
  AND (l.oid IS NULL OR NOT lanpltrusted OR NOT has_language_privilege(l.oid, 'USAGE'))
   OR sort = 'language' AND l.oid IS NULL
UNION ALL SELECT sort, name, CASE
    WHEN NOT bool_or(v.name IS NOT NULL) THEN format('the extension %%s is not installed on this server', n.name)
    ELSE format('our role may not create the extension %%s', n.name) END
FROM n CROSS JOIN me LEFT JOIN pg_available_extension_versions v USING (name)
WHERE sort = 'extension' GROUP BY 1, 2, super HAVING NOT coalesce(bool_or(v.trusted OR NOT v.superuser OR super), FALSE)
UNION ALL SELECT sort, name, format('the extension %%s can only be in the database %%s, by the setting %%s', name,
    coalesce(current_setting(setting, TRUE), 'that the server names'), setting) FROM n JOIN one USING (name)
WHERE sort = 'extension'
UNION ALL SELECT sort, name, format('only superusers can create %%s', name) FROM n, me WHERE sort = 'superuser' AND NOT super
UNION ALL SELECT sort, name, format('it creates the subscription %%s, whose publisher would have two', name) FROM n
WHERE sort = 'subscription'
""".replace("<set>", SET_ROLE)
