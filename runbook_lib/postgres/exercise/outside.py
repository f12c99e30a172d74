"""Finds what may act outside the database: statements that reach it are not exercised, triggers that do are disabled.

A rollback undoes all that a statement did in the clone, and NOTIFY is not sent. But it does not undo what a C function, an
untrusted language or a foreign table did elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.exercise.statement import Statement

HARMLESS_EXTENSIONS = (  # their functions act only in the database
    *("autoinc", "btree_gin", "btree_gist", "citext", "cube", "dict_int", "dict_xsyn", "earthdistance", "fuzzystrmatch"),
    *("hstore", "insert_username", "intagg", "intarray", "isn", "lo", "ltree", "moddatetime", "pg_stat_statements"),
    *("pg_trgm", "pgcrypto", "pgstattuple", "plpgsql", "postgis", "refint", "seg", "tablefunc", "tcn", "tsm_system_rows"),
    *("tsm_system_time", "unaccent", "uuid-ossp", "vector", "xml2"),
)
_SERVERS_OWN = re.compile(  # the server's own functions that act on other sessions or on files
    r"\b(pg_(cancel|terminate)_backend|pg_reload_conf|pg_rotate_logfile|pg_promote|pg_switch_wal|pg_stat_reset\w*"
    r"|pg_stat_statements_reset|pg_create_\w+|pg_drop_replication_slot|pg_replication_\w+|pg_logical_\w+|pg_read_\w*file"
    r"|lo_export|lo_import|pg_log_\w+|pg_wal_replay_\w+|pg_backup_\w+)\b",
    re.IGNORECASE,
)
_COPY, _DYNAMIC = re.compile(r"\bCOPY\b", re.IGNORECASE), re.compile(r"\bEXECUTE\b", re.IGNORECASE)

# Each object with a text, by the name that statements use; `acts` if it may act elsewhere by itself.
_THINGS = """
WITH of_extension AS (
    SELECT d.classid, d.objid, e.extname = ANY (%(harmless)s) AS harmless
    FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid WHERE d.deptype = 'e'
), theirs AS (
    SELECT oid FROM pg_namespace WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)')
SELECT p.oid, p.proname AS name, p.prosrc || coalesce(pg_get_function_sqlbody(p.oid), '') AS text,
       x.objid IS NOT NULL OR NOT l.lanpltrusted AND l.lanname <> 'internal' AS acts
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
LEFT JOIN of_extension x ON x.classid = 'pg_proc'::regclass AND x.objid = p.oid
WHERE p.pronamespace IN (SELECT oid FROM theirs) AND x.harmless IS DISTINCT FROM TRUE
UNION ALL
SELECT 0, c.relname, '', TRUE FROM pg_class c
WHERE c.relkind = 'f' OR EXISTS (
    SELECT FROM pg_inherits i JOIN pg_class f ON f.oid = i.inhrelid WHERE i.inhparent = c.oid AND f.relkind = 'f')
UNION ALL
SELECT 0, c.relname, pg_get_viewdef(c.oid), FALSE FROM pg_class c
WHERE c.relkind IN ('v', 'm') AND c.relnamespace IN (SELECT oid FROM theirs)
UNION ALL
SELECT 0, c.relname, pg_get_ruledef(r.oid), FALSE FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
WHERE r.ev_type <> '1' AND c.relnamespace IN (SELECT oid FROM theirs)
UNION ALL
SELECT 0, c.relname, pg_get_expr(a.adbin, a.adrelid), FALSE FROM pg_attrdef a JOIN pg_class c ON c.oid = a.adrelid
WHERE c.relnamespace IN (SELECT oid FROM theirs)
UNION ALL
SELECT 0, c.relname, pg_get_constraintdef(k.oid), FALSE FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'c' AND c.relnamespace IN (SELECT oid FROM theirs)
UNION ALL
SELECT 0, c.relname, concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), FALSE
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
UNION ALL
SELECT 0, c.relname, pg_get_indexdef(i.indexrelid), FALSE FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND c.relnamespace IN (SELECT oid FROM theirs)
"""


@dataclass(frozen=True)
class Outside:
    """The names that lead a statement outside the database, and the functions that act there."""

    names: frozenset[str]
    functions: frozenset[int]  # OIDs

    def reached_by(self, statement: Statement) -> str:
        """Return the name in this set that a statement uses, "" for none. Pure."""
        if found := _SERVERS_OWN.search(statement.text):
            return found[0]
        return min((name for name in self.names if _word(name).search(statement.text)), default="")


def outside(connection: Connection) -> Outside:
    """Find what may act outside the database, by itself or by what its text names. Read-only."""
    things = connection.execute(_THINGS, {"harmless": list(HARMLESS_EXTENSIONS)}).fetchall()
    own = {place for place, thing in enumerate(things) if thing["acts"]}
    reached = own | {
        place for place, thing in enumerate(things) if _SERVERS_OWN.search(thing["text"]) or _COPY.search(thing["text"])
    }
    if own:
        reached |= {place for place, thing in enumerate(things) if _DYNAMIC.search(thing["text"])}
    while more := _naming(things, {things[place]["name"] for place in reached}) - reached:
        reached |= more
    return Outside(
        frozenset(things[place]["name"] for place in reached),
        frozenset(things[place]["oid"] for place in reached if things[place]["oid"]),
    )


def keep_quiet(connection: Connection, found: Outside) -> list[str]:
    """Disable the triggers of such functions until the rollback, and return their names. Changes the clone."""
    rows = connection.execute(
        """SELECT n.nspname AS schema, c.relname AS table, t.tgname AS name FROM pg_trigger t
           JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgfoid = ANY (%s) ORDER BY 1, 2, 3""",
        [list(found.functions)],
    ).fetchall()
    for row in rows:
        table, name = sql.Identifier(row["schema"], row["table"]), sql.Identifier(row["name"])
        connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(table, name))
    return [f"{row['name']} of {row['table']}" for row in rows]


def _naming(things: list[dict[str, object]], names: Collection[str]) -> set[int]:
    words = [_word(name) for name in names]
    return {place for place, thing in enumerate(things) if any(word.search(str(thing["text"])) for word in words)}


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
