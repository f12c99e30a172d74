"""Names what depends on columns that are to be dropped or swapped; none of it is ever dropped with them.

A trigger counts as harmless only if its text shows it: it writes no table, calls nothing that might, refuses no row and
sets no other column. The plan must name every other trigger that fires, with the tables it writes.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.postgres import Connection
from runbook_lib.postgres.change_capture import capture_trigger
from runbook_lib.postgres.connection import one


def dependents(connection: Connection, database: Database, columns: Sequence[str], run: str) -> list[str]:
    """List all that uses one of the columns and that neither the plan names nor `run` made, one line each. Read-only."""
    parameters = {
        "table": table_of(database, connection),
        "columns": list(columns),
        "indexes": database.indexes,
        "constraints": database.constraints,
        "own": capture_trigger(run),
    }
    lines = [
        f"{row['what']} uses {', '.join(row['columns'])}" for row in connection.execute(_DEPENDENTS, parameters).fetchall()
    ]
    lines += [f"rights on {row['name']}: {row['acl']}" for row in connection.execute(_RIGHTS, parameters).fetchall()]
    for row in connection.execute(_TRIGGERS, parameters).fetchall():
        lines.append(f"trigger {row['name']} calls {row['function']}, whose text names {', '.join(row['columns'])}")
    return lines


def hides_rows(connection: Connection, database: Database) -> bool:
    """Report whether row security hides rows of the table from our role. Read-only."""
    name = table_of(database, connection)
    return bool(one(connection, "SELECT row_security_active(%s::regclass) AS it", [name])["it"])


def risks(connection: Connection, database: Database, columns: Sequence[str]) -> list[str]:
    """List what may stop working although the catalog does not link it to the columns, one line each. Read-only."""
    table = table_of(database, connection)
    parameters = {"table": table, "columns": list(columns)}
    functions = connection.execute(_FUNCTIONS, parameters).fetchall()
    publications = connection.execute(_PUBLICATIONS, parameters).fetchall()
    return [
        *(f"the text of function {row['name']} names {', '.join(row['columns'])}" for row in functions),
        *whole_rows(connection, database),
        *(f"publication {row['name']} publishes the table: its subscribers have these columns too" for row in publications),
        *replicated(connection, [table]),
    ]


def whole_rows(connection: Connection, database: Database) -> list[str]:
    """List what uses the table's rows whole or by position, which another column would change, one line each. Read-only."""
    rows = connection.execute(_WHOLE_ROWS, {"table": table_of(database, connection), "name": database.table})
    return [row["what"] for row in rows]


def update_triggers(connection: Connection, database: Database, run: str) -> list[str]:
    """Name the triggers that fire for an updated row of the table, except those of `run`. Read-only."""
    rows = connection.execute(
        """SELECT tgname AS name FROM pg_trigger
           WHERE tgrelid = %s::regclass AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 16 <> 0
             AND tgname <> %s ORDER BY 1""",
        [table_of(database, connection), capture_trigger(run)],
    )
    return [row["name"] for row in rows]


def table_of(database: Database, connection: Connection) -> str:
    """Name the plan's table as text that the server reads. Pure."""
    return sql.Identifier(database.schema_, database.table).as_string(connection)


_NAMES_A_COLUMN = r"""ARRAY (SELECT c FROM unnest(%(columns)s::text[]) c
    WHERE p.prosrc ~ ('(?<!\w)' || regexp_replace(c, '([^\w])', '\\\1', 'g') || '(?!\w)'))"""

_DEPENDENTS = """
WITH removed AS (
    SELECT attnum, attname FROM pg_attribute
    WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped AND attname = ANY (%(columns)s)
)
SELECT coalesce(CASE v.relkind WHEN 'm' THEN 'materialized ' ELSE '' END || 'view ' || v.oid::regclass,
                'generated column ' || g.attname, pg_describe_object(d.classid, d.objid, d.objsubid)) AS what,
       array_agg(DISTINCT r.attname::text) AS columns
FROM pg_depend d JOIN removed r ON r.attnum = d.refobjsubid
LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
LEFT JOIN pg_class v ON v.oid = w.ev_class AND v.relkind IN ('v', 'm')
LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
LEFT JOIN pg_attribute g ON g.attrelid = f.adrelid AND g.attnum = f.adnum AND g.attgenerated <> ''
LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
LEFT JOIN pg_index i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
LEFT JOIN pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %(table)s::regclass
  AND NOT coalesce(f.adrelid = d.refobjid AND f.adnum IN (SELECT attnum FROM removed), FALSE)
  AND NOT coalesce(k.conrelid = d.refobjid AND (k.conname = ANY (%(constraints)s)
                   OR k.contype = 'n' AND k.conkey <@ ARRAY (SELECT attnum FROM removed)), FALSE)
  AND NOT coalesce(i.indrelid = d.refobjid AND x.relname = ANY (%(indexes)s), FALSE)
  AND t.tgname IS DISTINCT FROM %(own)s
GROUP BY 1 ORDER BY 1
"""

_RIGHTS = """
SELECT attname AS name, attacl::text AS acl FROM pg_attribute
WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped AND attname = ANY (%(columns)s)
  AND attacl IS NOT NULL ORDER BY attnum
"""

_TRIGGERS = """
SELECT * FROM (
    SELECT t.tgname AS name, p.oid::regprocedure::text AS function, {named} AS columns
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = %(table)s::regclass AND NOT t.tgisinternal AND t.tgname <> %(own)s) f
WHERE cardinality(columns) > 0 ORDER BY name
""".replace("{named}", _NAMES_A_COLUMN)

_FUNCTIONS = """
SELECT * FROM (
    SELECT p.oid::regprocedure::text AS name, {named} AS columns
    FROM pg_proc p
    WHERE p.pronamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'runbook') AND p.prosqlbody IS NULL
      AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid AND t.tgrelid = %(table)s::regclass)) f
WHERE cardinality(columns) > 0 ORDER BY name
""".replace("{named}", _NAMES_A_COLUMN)

_WHOLE_ROWS = r"""
WITH t AS (SELECT c.oid, c.oid::regclass::text AS name, c.reltype, y.typarray
           FROM pg_class c JOIN pg_type y ON y.oid = c.reltype WHERE c.oid = %(table)s::regclass),
f AS (SELECT p.oid, p.oid::regprocedure::text AS name, p.prosrc AS text FROM pg_proc p
      WHERE p.pronamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'runbook'))
SELECT 'view ' || w.ev_class::regclass || ' uses whole rows of ' || t.name AS what
FROM t JOIN pg_rewrite w ON w.ev_class <> t.oid AND w.ev_action::text ~ format(':varattno 0 :vartype %%s ', t.reltype)
UNION SELECT 'function ' || f.name || ' takes or gives whole rows of ' || t.name
FROM t JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.reltype, t.typarray)
           AND d.classid = 'pg_proc'::regclass JOIN f ON f.oid = d.objid
UNION SELECT 'function ' || f.name || ' uses whole rows of ' || t.name
FROM t CROSS JOIN f JOIN pg_proc p ON p.oid = f.oid
WHERE p.prosqlbody::text ~ format(':varattno 0 :vartype %%s ', t.reltype)
UNION SELECT 'column ' || d.objid::regclass || '.' || a.attname || ' holds whole rows of ' || t.name
FROM t JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.reltype, t.typarray)
           AND d.classid = 'pg_class'::regclass AND d.objid <> t.oid
JOIN pg_class h ON h.oid = d.objid AND h.relkind NOT IN ('v', 'm')
JOIN pg_attribute a ON a.attrelid = d.objid AND a.attnum = d.objsubid
UNION SELECT 'function ' || f.name || ' writes or copies rows of ' || t.name || ' by position, by its text'
FROM t CROSS JOIN f CROSS JOIN regexp_replace(%(name)s, '([^\w])', '\', 'g') n(pattern)
WHERE f.text ~* ('\mINSERT\s+INTO\s+(\w+\.|"[^"]+"\.)?"?' || pattern || '"?\s+(VALUES|SELECT|OVERRIDING|TABLE)\M')
   OR f.text ~* ('"?' || pattern || '"?\s*%%\s*ROWTYPE')
   OR f.text ~* '\m(NEW|OLD)\s*\.\s*\*' AND EXISTS (SELECT FROM pg_trigger g WHERE g.tgfoid = f.oid AND g.tgrelid = t.oid)
ORDER BY 1
"""

_PUBLICATIONS = """
SELECT DISTINCT p.pubname AS name FROM pg_publication_tables p JOIN pg_class c ON c.relname = p.tablename
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = p.schemaname
WHERE c.oid = %(table)s::regclass ORDER BY 1
"""


@dataclass(frozen=True)
class Publication:
    """A publication of a table; `listed` says whether it names the columns that it publishes."""

    name: str
    listed: bool


def publications(connection: Connection, database: Database) -> list[Publication]:
    """List the publications of the plan's table: of the table itself, its schema or all tables. Read-only."""
    rows = connection.execute(
        """SELECT p.pubname AS name, coalesce(r.prattrs IS NOT NULL, FALSE) AS listed
           FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = %(table)s::regclass
           WHERE EXISTS (SELECT FROM pg_publication_tables t JOIN pg_class c ON c.relname = t.tablename
                         JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schemaname
                         WHERE t.pubname = p.pubname AND c.oid = %(table)s::regclass) ORDER BY 1""",
        {"table": table_of(database, connection)},
    )
    return [Publication(**row) for row in rows]


def without_identity(connection: Connection, tables: Iterable[str]) -> list[str]:
    """List the published tables without a replica identity, where the server refuses to write rows. Read-only."""
    rows = connection.execute(_WITHOUT_IDENTITY, [list(tables)])
    return [row["why"] for row in rows]


_WITHOUT_IDENTITY = """
SELECT c.oid::regclass || ' is published with its ' || concat_ws(' and ', CASE WHEN bool_or(p.pubupdate) THEN 'updates' END,
           CASE WHEN bool_or(p.pubdelete) THEN 'deletes' END)
       || ' by ' || string_agg(DISTINCT p.pubname, ', ' ORDER BY p.pubname)
       || ', but has no replica identity, so no row of it can be updated or deleted. Give it one: ALTER TABLE '
       || c.oid::regclass || ' REPLICA IDENTITY FULL' AS why
FROM unnest(%s::text[]) n(name) JOIN pg_class c ON c.oid = to_regclass(n.name)
JOIN pg_namespace h ON h.oid = c.relnamespace
JOIN pg_publication_tables s ON s.tablename = c.relname AND s.schemaname = h.nspname
JOIN pg_publication p ON p.pubname = s.pubname AND (p.pubupdate OR p.pubdelete)
WHERE c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (
          SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary AND indisvalid)
   OR c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisreplident AND indisvalid)
GROUP BY c.oid ORDER BY 1
"""


def replicated(connection: Connection, tables: Iterable[str]) -> list[str]:
    """List who else writes the tables or receives what is written: subscriptions and logical slots. Read-only."""
    return [row["it"] for row in connection.execute(_REPLICATED, [list(tables)])]


_REPLICATED = """
SELECT format('subscription %%s writes %%s from another server meanwhile: ALTER SUBSCRIPTION %%I DISABLE until the end',
    subname, string_agg(srrelid::regclass::text, ', '), subname) AS it
FROM pg_subscription JOIN pg_subscription_rel ON srsubid = pg_subscription.oid AND subenabled
WHERE srrelid = ANY (SELECT to_regclass(t) FROM unnest(%s::text[]) t) GROUP BY subname
UNION ALL SELECT format('replication slot %%s (%%s) sends each change to its reader', slot_name, plugin)
FROM pg_replication_slots WHERE database = current_database() ORDER BY 1
"""


def would_lack_columns(connection: Connection, database: Database) -> list[str]:
    """List why subscribers would receive a column they lack if one is added or renamed, one line each. Read-only."""
    return [
        f"publication {each.name} publishes all columns: its subscribers would receive one that they lack"
        for each in publications(connection, database)
        if not each.listed
    ]


GRANTS_OF_SETTINGS = 150000  # first server version with GRANT SET ON PARAMETER
READ = "plpgsql"  # the language whose text is read
HARMLESS = (  # the server's own volatile functions that leave nothing behind
    *("clock_timestamp", "timeofday", "random", "gen_random_uuid", "set_config", "setseed", "txid_current"),
    *("pg_current_xact_id", "pg_backend_pid", "pg_trigger_depth", "pg_sleep"),
)


@dataclass(frozen=True)
class Effects:
    """Return what a trigger's function does, by its text, apart from passing the row on."""

    writes: frozenset[str] = frozenset()  # tables, by the names in the text
    sets: frozenset[str] = frozenset()  # columns of the row
    other: tuple[str, ...] = ()  # anything else that may do harm

    def __str__(self) -> str:
        return "; ".join([*([f"writes {', '.join(sorted(self.writes))}"] if self.writes else []), *self.other])


@dataclass(frozen=True)
class Trigger:
    """A trigger, or a rule, that fires when a row is written."""

    name: str
    columns: tuple[str, ...]  # it fires for these only; if empty, for any
    effects: Effects


def triggers(
    connection: Connection,
    table: sql.Identifier,
    event: Literal["INSERT", "UPDATE"],
    run: str,
    *,
    kept_out: bool = False,
) -> list[Trigger]:
    """List the enabled triggers and rules that fire for an event, except those of `run`. Read-only.

    If triggers are kept out, list those that fire all the same: ENABLE ALWAYS, and ENABLE REPLICA.
    """
    states = ["R", "A"] if kept_out else ["O", "A"]
    parameters = {"table": table.as_string(connection), "event": event, "own": capture_trigger(run), "states": states}
    found = connection.execute(_TRIGGERS_AND_RULES, parameters).fetchall()
    risky = _risky(connection, {name for row in found for name in _calls(row["source"])})
    return [
        Trigger(row["name"], tuple(row["columns"]), effects(row["language"], row["source"], row["before_row"], risky))
        for row in found
    ]


TRIGGERS = {
    "fire": "they fire for each row, as for the application's writes; the plan must list what they write",
    "keep_out": "they do not fire for the rows that the step and its undo write (session_replication_role)",
}


def firing_line(fired: Sequence["Trigger"], rows: int, *, kept_out: bool) -> list[str]:
    """Return the preview's line about the triggers of written rows; empty if there are none. Pure."""
    if not fired or not rows:
        return []
    names = ", ".join(f"{each.name} ({what})" if (what := str(each.effects)) else each.name for each in fired)
    if kept_out:
        return [f"these triggers are kept out of {rows} rows, and of an undo: {names}"]
    return [f"these triggers fire for each of {rows} rows, {rows * len(fired)} times, and for an undo: {names}"]


def cannot_keep_out(
    connection: Connection, table: sql.Identifier, event: Literal["INSERT", "UPDATE"], written: Collection[str]
) -> list[str]:
    """List why triggers cannot be kept out of rows whose columns `written` are set, one line each. Read-only.

    Foreign keys are not checked then either.
    """
    allowed = "current_setting('is_superuser')::boolean"
    if connection.info.server_version >= GRANTS_OF_SETTINGS:
        allowed += " OR has_parameter_privilege('session_replication_role', 'SET')"
    row = one(connection, f"SELECT {allowed} AS it, current_user AS role".encode())
    grant = f'GRANT SET ON PARAMETER session_replication_role TO "{row["role"]}"'
    lines = [] if row["it"] else [f"our role may not keep triggers out: as a superuser, {grant}"]
    parameters = {"table": table.as_string(connection), "event": event, "columns": list(written)}
    return lines + [
        f"the foreign key {row['name']} would not be checked either" for row in connection.execute(_CHECKED, parameters)
    ]


def objections(
    fired: Sequence[Trigger], written: Collection[str], may_set: Collection[str] | None, named: Mapping[str, Sequence[str]]
) -> list[str]:
    """List why rows whose columns `written` are set must not fire these triggers, one line each. Pure.

    Args:
        fired: The triggers of the table.
        written: The columns that the statement sets.
        may_set: Columns that a trigger may also set; None for any.
        named: The plan's triggers: trigger -> the tables that it may write.
    """
    lines = []
    for each in fired:
        if each.columns and not set(each.columns) & set(written):
            continue
        sets = sorted(each.effects.sets - set(may_set)) if may_set is not None else []
        if sets:
            lines.append(f"{each.name} sets {', '.join(sets)} in each row, so more changes than intended")
        elif each.name not in named:
            if str(each.effects):
                ways = "Name it in the plan's database.triggers, or choose TRIGGERS=keep_out"
                lines.append(f"{each.name} fires: it {each.effects}. {ways}")
        elif unnamed := sorted(each.effects.writes - {_unqualified(name) for name in named[each.name]}):
            lines.append(f"{each.name} writes {', '.join(unnamed)}, which the plan's database.triggers does not list")
    return lines


def effects(language: str, source: str, before_row: bool, risky: Collection[str]) -> Effects:
    """Read from its text what a trigger's function does; `risky` are the functions that may write. Pure."""
    if language != READ:
        return Effects(other=(f"is written in {language}, which the runbook does not read",))
    text = _plain(source)
    other = [f"calls {name}" for name in sorted(_calls(source) & set(risky))]
    other += [f"does {' '.join(found.upper().split())}" for found in dict.fromkeys(_ACTS.findall(text))]
    if _RAISES.search(text):
        other.append("may refuse a row")
    if before_row and (_NOT_NEW.search(text) or _WHOLE_ROW.search(text)):
        other.append("may replace or skip a row")
    writes = {_unqualified(name) for name in _WRITES.findall(text)}
    sets = {_unquoted(name) for name in _SETS.findall(text)} if before_row else set()
    return Effects(frozenset(writes), frozenset(sets), tuple(other))


def _risky(connection: Connection, names: Collection[str]) -> set[str]:
    """Find the functions of these names that are neither the server's own nor free of effects. Read-only."""
    rows = connection.execute(
        """SELECT n.name FROM unnest(%s::text[]) n(name) WHERE EXISTS (
               SELECT FROM pg_proc p WHERE p.proname = n.name AND (p.pronamespace <> 'pg_catalog'::regnamespace
                      OR p.provolatile = 'v' AND p.proname <> ALL (%s)))""",
        [list(names), list(HARMLESS)],
    )
    return {row["name"] for row in rows}


def _calls(source: str) -> set[str]:
    return {_unqualified(name) for name in _CALL.findall(_plain(source))}


def _plain(source: str) -> str:
    """Strip comments from the text, and empty its strings."""
    return _LEFT_OUT.sub(lambda found: " " if found[0][:2] in ("--", "/*") else "''", source)


def _unqualified(name: str) -> str:
    return _unquoted(_LAST.search(name)[0])  # type: ignore[index]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


_PART = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_NAME = rf"(?:{_PART}\.)?{_PART}"
_LAST = re.compile(rf"{_PART}$")
_LEFT_OUT = re.compile(r"--[^\n]*|/\*.*?\*/|[eE]?'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", re.DOTALL)
_CALL = re.compile(rf"({_NAME})\s*\(")
_WRITES = re.compile(
    r"\b(?:INSERT\s+INTO|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE(?:\s+TABLE)?|(?<!FOR )(?<!KEY )UPDATE)\s+(?:ONLY\s+)?"
    rf"({_NAME})",
    re.IGNORECASE,
)
_ACTS = re.compile(
    r"\b(EXECUTE|CALL|NOTIFY|COPY|CREATE|ALTER|DROP|REFRESH|LOCK|GRANT|REVOKE|FOR\s+(?:NO\s+KEY\s+)?UPDATE)\b",
    re.IGNORECASE,
)
_RAISES = re.compile(r"\bASSERT\b|\bRAISE\b(?!\s+(?:NOTICE|INFO|LOG|WARNING|DEBUG)\b)", re.IGNORECASE)
_NOT_NEW = re.compile(r"\bRETURN\s+(?!NEW\s*;)", re.IGNORECASE)
_WHOLE_ROW = re.compile(r"\bNEW\s*:=|\bINTO\s+(?:STRICT\s+)?(?:[\w.\s,]*\s)?NEW\b", re.IGNORECASE)
_SETS = re.compile(rf"(?:^|;|\bBEGIN\b|\bTHEN\b|\bELSE\b|\bLOOP\b)\s*NEW\s*\.\s*({_PART})\s*(?:\[|\.|:?=)", re.IGNORECASE)

# A rule has no text of this kind: what it does is unknown, as of a function in another language.
_TRIGGERS_AND_RULES = """
SELECT t.tgname AS name, l.lanname AS language, coalesce(p.prosrc, '') AS source, t.tgtype & 3 = 3 AS before_row,
       ARRAY (SELECT a.attname::text FROM pg_attribute a
              WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr::int2[])) AS columns
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language l ON l.oid = p.prolang
WHERE t.tgrelid = %(table)s::regclass AND NOT t.tgisinternal AND t.tgenabled = ANY (%(states)s)
  AND t.tgtype & CASE %(event)s WHEN 'INSERT' THEN 4 ELSE 16 END <> 0 AND t.tgname <> %(own)s
UNION ALL
SELECT r.rulename, 'a rule', '', FALSE, ARRAY[]::text[] FROM pg_rewrite r
WHERE r.ev_class = %(table)s::regclass AND r.ev_enabled = ANY (%(states)s)
  AND r.ev_type = CASE %(event)s WHEN 'INSERT' THEN '3' ELSE '2' END
ORDER BY name
"""

_CHECKED = """
SELECT DISTINCT k.conname AS name FROM pg_constraint k
LEFT JOIN pg_attribute a ON a.attrelid = %(table)s::regclass AND a.attname = ANY (%(columns)s)
  AND (k.conrelid = a.attrelid AND a.attnum = ANY (k.conkey) OR k.confrelid = a.attrelid AND a.attnum = ANY (k.confkey))
WHERE k.contype = 'f' AND (a.attnum IS NOT NULL OR %(event)s = 'INSERT' AND k.conrelid = %(table)s::regclass)
ORDER BY 1
"""
