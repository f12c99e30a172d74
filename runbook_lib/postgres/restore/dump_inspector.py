"""Inspect a dump before anything is restored from it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runbook_lib.config.plan import Database
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA
from runbook_lib.postgres.connection import MAINTENANCE, one
from runbook_lib.postgres.dump import DumpContents, DumpTools
from runbook_lib.postgres.restore.shape import Name

_NAME = r"(?:\"(?:[^\"]|\"\")+\"|[\w$]+)"
_TABLE = re.compile(rf"^CREATE (?:UNLOGGED )?TABLE (?P<name>{_NAME}(?:\.{_NAME})?) \(\n", re.MULTILINE)
_FOREIGN_KEY = re.compile(
    rf"^ALTER TABLE (?:ONLY )?(?P<table>{_NAME}\.{_NAME})\n    ADD CONSTRAINT (?P<name>{_NAME}) FOREIGN KEY "
    rf"\((?P<columns>{_NAME}(?:, {_NAME})*)\) REFERENCES (?P<target>{_NAME}\.{_NAME})[^;]*;$",
    re.MULTILINE,
)
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|.", re.DOTALL)
_COLUMN = re.compile(rf"(?P<name>{_NAME}) (?P<rest>.+)", re.DOTALL)
_AFTER_TYPE = re.compile(r"\s(?:NOT NULL|NULL|DEFAULT|GENERATED|COLLATE|CONSTRAINT|STORAGE|COMPRESSION)\b")


@dataclass(frozen=True)
class DumpedKey:
    """A foreign key of a dump; `statement` creates it."""

    name: str
    table: Name
    columns: tuple[str, ...]
    target: Name
    statement: str

    def __str__(self) -> str:
        return f"{self.name} of {'.'.join(self.table)}"


@dataclass(frozen=True)
class Dump:
    """A dump, its table of contents, and the columns of its tables ("schema.table" -> column -> type)."""

    path: Path
    contents: DumpContents
    columns: Mapping[str, Mapping[str, str]]
    not_valid: frozenset[str] = frozenset()  # constraints that were not valid when the dump was made
    foreign_keys: tuple[DumpedKey, ...] = ()

    @property
    def made(self) -> datetime:
        """When the dump was made."""
        return self.contents.made

    def columns_of_feature(self, database: Database) -> list[str]:
        """Return the feature's added columns that the dump holds."""
        there = self.columns.get(f"{database.schema_}.{database.table}", {})
        return [name for name in database.columns if name in there]


def newest(directory: Path, pattern: str) -> Path | None:
    """Return the newest file of a directory that matches; None if none does. Read-only."""
    return max(directory.glob(pattern), key=lambda path: path.stat().st_mtime, default=None)


def look(tools: DumpTools, path: Path) -> Dump:
    """Read a dump's table of contents and its schema. Read-only.

    Raises:
        AdapterError: Our pg_restore cannot read it as a dump.
    """
    contents = tools.contents(path)
    schema = contents.schema
    not_valid = frozenset(map(_plain, re.findall(rf"ADD CONSTRAINT ({_NAME}) .* NOT VALID;$", schema, re.MULTILINE)))
    return Dump(path, contents, columns_by_table(schema), not_valid, foreign_keys(schema))


def columns_by_table(schema: str) -> dict[str, dict[str, str]]:
    """Return the columns and types in the CREATE TABLE statements of pg_dump, by "schema.table". Pure."""
    return {
        table: {name: _AFTER_TYPE.split(rest, maxsplit=1)[0].strip() for kind, name, rest in items if kind == "column"}
        for table, items in items_by_table(schema).items()
    }


def items_by_table(schema: str) -> dict[str, list[tuple[str, str, str]]]:
    """Return the items between the brackets of pg_dump's CREATE TABLE statements, by "schema.table". Pure.

    Each item is a "column" or a "constraint", its name, and its remaining text.
    """
    found: dict[str, list[tuple[str, str, str]]] = {}
    for table in _TABLE.finditer(schema):
        items = found.setdefault(_plain(table["name"]), [])
        for text in _items(schema, table.end()):
            own = text.removeprefix("CONSTRAINT ")
            if part := _COLUMN.match(own):
                items.append(("column" if own == text else "constraint", _plain(part["name"]), part["rest"]))
    return found


def foreign_keys(schema: str) -> tuple[DumpedKey, ...]:
    """Return the foreign keys in the SQL of pg_dump. Pure."""
    return tuple(
        DumpedKey(
            _plain(found["name"]),
            _of_two(found["table"]),
            tuple(plain_names(found["columns"])),
            _of_two(found["target"]),
            found[0],
        )
        for found in _FOREIGN_KEY.finditer(schema)
    )


def _items(text: str, start: int) -> Iterator[str]:
    """Yield the comma-separated items up to the closing bracket; commas in quotes and inner brackets do not split."""
    depth, item = 0, ""
    for token in _TOKEN.finditer(text, start):
        match token[0]:
            case ")" if depth == 0:
                break
            case "," if depth == 0:
                yield item.strip()
                item = ""
                continue
            case "(" | "[":
                depth += 1
            case ")" | "]":
                depth -= 1
        item += token[0]
    if item.strip():
        yield item.strip()


def _plain(name: str) -> str:
    """Return a name of one or two parts as the catalog has it."""
    return ".".join(plain_names(name))


def _of_two(name: str) -> Name:
    schema, own = plain_names(name)
    return schema, own


def plain_names(names: str) -> list[str]:
    """Return names in the SQL of pg_dump, each as the catalog has it. Pure."""
    parts = re.findall(r"\"((?:[^\"]|\"\")+)\"|([\w$]+)", names)
    return [quoted.replace('""', '"') or bare for quoted, bare in parts]


def rights(connection: Connection) -> Mapping[str, bool]:
    """Map each right that a restore needs to whether our role has it. Read-only."""
    return one(connection, _RIGHTS, [MAINTENANCE])


def owners_not_ours(connection: Connection, names: Sequence[str]) -> list[str]:
    """Return the owners that do not exist, or of which our role is not a member. Read-only."""
    return _names(connection, _STRANGE_OWNERS, [names])


def tables_of_others(connection: Connection) -> list[str]:
    """Return the tables whose owner our role is not a member of. Read-only."""
    return _names(connection, _OTHERS_TABLES)


def owners_kept_out(connection: Connection) -> list[str]:
    """Return owners who may not create in the schema of their own objects: only a superuser can restore that ownership.

    Read-only.
    """
    return _names(connection, _KEPT_OUT, [OWN_SCHEMA])


def settings_out_of_hand(connection: Connection) -> list[str]:
    """Return the settings of the database that our role may not set on another database. Read-only."""
    return _names(connection, _OUT_OF_HAND)


def directory(connection: Connection) -> str | None:
    """Return where the server stores the database; None if on another machine, or hidden from our role. Read-only."""
    name = one(connection, _DIRECTORY)["name"]
    return str(name) if name else None


def ties(connection: Connection) -> list[str]:
    """Return what stays with a renamed database: slots, prepared transactions, subscriptions. Read-only."""
    return _names(connection, _TIES)


def _names(connection: Connection, query: str, parameters: Sequence[object] | None = None) -> list[str]:
    return [row["name"] for row in connection.execute(query.encode(), parameters)]


# The privilege for creating objects owned by another role: until 16 every membership had it.
SET_ROLE = "CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END"

_RIGHTS = """
SELECT rolcreatedb OR rolsuper AS "make and rename databases (CREATEDB)",
       pg_has_role(datdba, 'USAGE') AS "act for the database's owner",
       pg_has_role(datdba, <set>) AS "become the database's owner (GRANT … WITH SET TRUE)",
       has_database_privilege(%s, 'CONNECT') AS "connect to the maintenance database",
       pg_has_role('pg_signal_backend', 'USAGE') AS "end sessions (pg_signal_backend)"
FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()
""".replace("<set>", SET_ROLE)

_STRANGE_OWNERS = """
SELECT name FROM unnest(%s::text[]) name
WHERE coalesce(NOT pg_has_role(to_regrole(quote_ident(name))::oid, <set>), TRUE)
""".replace("<set>", SET_ROLE)

_OTHERS_TABLES = """
SELECT oid::regclass::text AS name FROM pg_class c
WHERE relkind IN ('r', 'p') AND relpersistence <> 't' AND relnamespace::regnamespace::text NOT LIKE 'pg\\_%'
  AND relnamespace <> 'information_schema'::regnamespace AND NOT pg_has_role(relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
"""

_KEPT_OUT = """
SELECT DISTINCT format('%%s in the schema %%s', pg_get_userbyid(owner), nspname) AS name FROM (
    SELECT 'pg_class'::regclass AS class, oid, relowner AS owner, relnamespace AS schema FROM pg_class WHERE relkind <> 't'
    UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, pronamespace FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, oid, typowner, typnamespace FROM pg_type
) o JOIN pg_namespace n ON n.oid = schema
WHERE nspname NOT LIKE 'pg\\_%%' AND nspname NOT IN ('information_schema', %s)
  AND NOT has_schema_privilege(owner, schema, 'CREATE') AND pg_get_userbyid(owner) <> current_user
  AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = o.oid AND deptype = 'e') ORDER BY 1
"""

_OUT_OF_HAND = """
SELECT DISTINCT name FROM pg_settings, pg_db_role_setting, unnest(setconfig) entry
WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) AND name = split_part(entry, '=', 1)
  AND (context LIKE 'superuser%' AND NOT has_parameter_privilege(name, 'SET')
       OR setrole <> 0 AND NOT pg_has_role(setrole, <set>))
""".replace("<set>", SET_ROLE)

_DIRECTORY = """
SELECT CASE WHEN inet_server_addr() IS NULL THEN coalesce(nullif(pg_tablespace_location(dattablespace), ''),
                CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END)
       END AS name
FROM pg_database d WHERE datname = current_database()
"""

_TIES = """
SELECT 'replication slot ' || slot_name AS name FROM pg_replication_slots WHERE database = current_database()
UNION ALL SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts WHERE database = current_database()
UNION ALL SELECT 'subscription ' || subname FROM pg_subscription
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
