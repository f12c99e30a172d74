"""Models the objects of a database's catalog: each with an identity, a definition, and what recreating it needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, LiteralString

from psycopg import sql

from runbook_lib.postgres import Connection

Definition = Mapping[str, Any]
USERS = """n.nspname <> ALL (ARRAY['pg_catalog', 'information_schema', 'pg_toast', 'runbook'])
    AND n.nspname !~ '^pg_(temp|toast_temp)_'"""


# `Object.key` of an object that pg_identify_object returned as {0}.
KEY = """CASE {0}.type WHEN 'materialized view' THEN 'view' WHEN 'table column' THEN 'column'
    WHEN 'procedure' THEN 'function' WHEN 'table constraint' THEN 'constraint'
    WHEN 'statistics object' THEN 'statistics' ELSE {0}.type END || ' ' || {0}.identity"""


def of_no_extension(catalog: LiteralString, oid: LiteralString) -> str:
    """Build the condition that an object is not part of an extension."""
    return f"""NOT EXISTS (
        SELECT FROM pg_depend e WHERE e.classid = '{catalog}'::regclass AND e.objid = {oid} AND e.deptype = 'e')"""


@dataclass(frozen=True)
class Object:
    """One object of a database.

    `id` is its OIDs, which survive a rename. `address` is its full name, which is the same in every copy of the database.
    Two objects are alike if their definitions are. `keeps` is what else is needed to recreate it.
    """

    kind: str
    id: str
    address: str
    parent: str  # the address of the object it belongs to and is dropped with, "" for none
    schema: str
    name: str
    definition: Definition
    keeps: Definition = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return its unique name among all objects."""
        return f"{self.kind} {self.address}"

    @property
    def quoted(self) -> str:
        """Return its quoted SQL name, with its schema if it has one."""
        return f"{quote(self.schema)}.{quote(self.name)}" if self.schema else quote(self.name)

    @property
    def rows(self) -> str:
        """Return a table's SQL for its rows: a partitioned table with its partitions, any other with ONLY."""
        return f"ONLY {self.quoted}" if self.definition["kind"] == "r" else self.quoted

    def like(self, other: Object) -> bool:
        """Report whether both have the same definition."""
        return self.definition == other.definition


class Kind:
    """A kind of object: how to read, create, change and drop such objects.

    `create` and the like return statements. `alter` returns None if a change cannot be made in place.
    """

    name: LiteralString
    query: str  # id, address, parent, schema, name, definition, keeps

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """Build the statements that create it."""
        raise NotImplementedError

    def drop(self, actual: Object) -> list[str]:
        """Build the statements that drop it, never what depends on it."""
        raise NotImplementedError

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """Build the statements that change it in place; None if it must be dropped and recreated."""
        return None

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """Build the statements that give it another name, and another schema."""
        raise NotImplementedError

    def owned(self, actual: Object) -> str:
        """Return its name for ALTER, if it has an owner."""
        raise NotImplementedError


@dataclass(frozen=True)
class Catalog:
    """All objects of a database, by kind and address."""

    objects: Mapping[str, Object]

    def __getitem__(self, key: str) -> Object:
        return self.objects[key]

    def get(self, key: str) -> Object | None:
        """Return the object with that key, or None."""
        return self.objects.get(key)

    def of(self, kind: str) -> list[Object]:
        """Return the objects of a kind."""
        return [each for each in self.objects.values() if each.kind == kind]

    def parts(self, parent: Object, kind: str) -> list[Object]:
        """Return the objects of a kind that belong to another object."""
        return self._parts.get((kind, parent.key), [])

    @cached_property
    def _parts(self) -> dict[tuple[str, str], list[Object]]:
        found: dict[tuple[str, str], list[Object]] = {}
        for each in self.objects.values():
            if each.parent:
                found.setdefault((each.kind, each.parent), []).append(each)
        return found

    @cached_property
    def by_id(self) -> dict[str, Object]:
        """Map each object by its OIDs."""
        return {f"{each.kind} {each.id}": each for each in self.objects.values()}


_AS_TEXT = "SELECT id, address, parent, schema, name, definition::text, keeps::text FROM ({}) each"


def read(connection: Connection, kinds: Iterable[Kind]) -> Catalog:
    """Read all objects of some kinds. Read-only."""
    found: dict[str, Object] = {}
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        with connection.pipeline():
            read = [(kind.name, connection.execute(sql.SQL(_AS_TEXT).format(sql.SQL(kind.query)))) for kind in kinds]
        for kind_name, rows in read:
            for row in rows:
                texts = row.pop("definition"), row.pop("keeps")
                each = Object(kind_name, **row, definition=_parsed(texts[0]), keeps=_parsed(texts[1] or "{}"))
                found[each.key] = each
    return Catalog(found)


@lru_cache(20_000)
def _parsed(text: str) -> Definition:
    """Parse a definition; cached, since many objects share one and databases are read repeatedly. Pure."""
    parsed: Definition = json.loads(text)
    return parsed


def quote(name: str) -> str:
    """Quote a name as an SQL identifier. Pure."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text as an SQL literal. Pure."""
    escaped = text.replace("'", "''")
    return " E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in escaped else f"'{escaped}'"


def changed(actual: Object, expected: Object) -> set[str]:
    """Name the attributes in which two definitions differ. Pure."""
    names = {*actual.definition, *expected.definition}
    return {name for name in names if actual.definition.get(name) != expected.definition.get(name)}


def short(address: str) -> str:
    """Shorten a name to what people write: without quotes, and without the schema `public`. Pure."""
    return address.removeprefix("public.").replace('""', "\0").replace('"', "").replace("\0", '"')
