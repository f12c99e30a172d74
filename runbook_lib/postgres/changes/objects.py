"""The objects of a database as its catalog has them: each with an identity, what defines it, and how to make it again."""

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


# The key of an object that pg_identify_object returned as {0}, as `Object.key` has it.
KEY = """CASE {0}.type WHEN 'materialized view' THEN 'view' WHEN 'table column' THEN 'column'
    WHEN 'procedure' THEN 'function' WHEN 'table constraint' THEN 'constraint'
    WHEN 'statistics object' THEN 'statistics' ELSE {0}.type END || ' ' || {0}.identity"""


def of_no_extension(catalog: LiteralString, oid: LiteralString) -> str:
    """The condition that an object is no part of an extension."""
    return f"""NOT EXISTS (
        SELECT FROM pg_depend e WHERE e.classid = '{catalog}'::regclass AND e.objid = {oid} AND e.deptype = 'e')"""


@dataclass(frozen=True)
class Object:
    """One object of a database.

    `id` is its OIDs, which survive a rename; `address` its name in words, which is the same in every copy of the database.
    Two objects are alike where their definitions are; `keeps` is what else is needed to make it again.
    """

    kind: str
    id: str
    address: str
    parent: str  # the address of what it belongs to and goes with, "" for nothing
    schema: str
    name: str
    definition: Definition
    keeps: Definition = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What it is called among all objects."""
        return f"{self.kind} {self.address}"

    @property
    def quoted(self) -> str:
        """Its name as SQL has it, with its schema where it has one."""
        return f"{quote(self.schema)}.{quote(self.name)}" if self.schema else quote(self.name)

    @property
    def rows(self) -> str:
        """A table as SQL has it where its own rows are meant: a partitioned one with its partitions, any other alone."""
        return f"ONLY {self.quoted}" if self.definition["kind"] == "r" else self.quoted

    def like(self, other: Object) -> bool:
        """Whether both have one definition."""
        return self.definition == other.definition


class Kind:
    """A kind of object; each says how such objects are read, made, changed and dropped.

    `create` and its kin return statements; `alter` returns None where a change cannot be made in place.
    """

    name: LiteralString
    query: str  # id, address, parent, schema, name, definition, keeps

    def create(self, expected: Object, catalog: Catalog) -> list[str]:
        """The statements that make it."""
        raise NotImplementedError

    def drop(self, actual: Object) -> list[str]:
        """The statements that drop it, never what depends on it."""
        raise NotImplementedError

    def alter(self, actual: Object, expected: Object, catalog: Catalog) -> list[str] | None:
        """The statements that turn one definition into another in place, None where it has to be dropped and made again."""
        return None

    def rename(self, actual: Object, expected: Object) -> list[str]:
        """The statements that give it another name, and another schema."""
        raise NotImplementedError

    def owned(self, actual: Object) -> str:
        """What ALTER calls it, where it has an owner."""
        raise NotImplementedError


@dataclass(frozen=True)
class Catalog:
    """All objects of a database, by kind and address."""

    objects: Mapping[str, Object]

    def __getitem__(self, key: str) -> Object:
        return self.objects[key]

    def get(self, key: str) -> Object | None:
        """The object of that key, None where there is none."""
        return self.objects.get(key)

    def of(self, kind: str) -> list[Object]:
        """The objects of a kind."""
        return [each for each in self.objects.values() if each.kind == kind]

    def parts(self, parent: Object, kind: str) -> list[Object]:
        """The objects of a kind that belong to another."""
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
        """Each object by its OIDs."""
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
    """A definition, which many objects share and which a database that is read again has again. Pure."""
    parsed: Definition = json.loads(text)
    return parsed


def quote(name: str) -> str:
    """A name as an identifier of SQL, quoted. Pure."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a literal of SQL. Pure."""
    escaped = text.replace("'", "''")
    return " E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in escaped else f"'{escaped}'"


def changed(actual: Object, expected: Object) -> set[str]:
    """The attributes in which two definitions differ. Pure."""
    names = {*actual.definition, *expected.definition}
    return {name for name in names if actual.definition.get(name) != expected.definition.get(name)}


def short(address: str) -> str:
    """A name as people write it: without quotes, and without the schema that everybody has. Pure."""
    return address.removeprefix("public.").replace('""', "\0").replace('"', "").replace("\0", '"')
