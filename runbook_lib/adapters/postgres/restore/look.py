"""What a dump holds, looked at before anything is restored from it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runbook_lib.adapters.postgres.dump import DumpContents, DumpTools
from runbook_lib.adapters.postgres.restore.shape import Name
from runbook_lib.plan import Database

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
    """A foreign key of a dump; `statement` makes it."""

    name: str
    table: Name
    columns: tuple[str, ...]
    target: Name
    statement: str

    def __str__(self) -> str:
        return f"{self.name} of {'.'.join(self.table)}"


@dataclass(frozen=True)
class Dump:
    """A dump, what it says of itself, and the columns of its tables ("schema.table" -> column -> type)."""

    path: Path
    contents: DumpContents
    columns: Mapping[str, Mapping[str, str]]
    not_valid: frozenset[str] = frozenset()  # constraints that were not valid when it was made
    foreign_keys: tuple[DumpedKey, ...] = ()

    @property
    def made(self) -> datetime:
        """When it was made."""
        return self.contents.made

    @property
    def owners(self) -> list[str]:
        """The roles that own something in it."""
        return sorted({entry.owner for entry in self.contents.entries if entry.owner})

    @property
    def extensions(self) -> list[str]:
        """The extensions that it makes."""
        return sorted({entry.name for entry in self.contents.entries if entry.kind == "EXTENSION"})

    @property
    def subscriptions(self) -> list[str]:
        """The subscriptions that it makes."""
        return sorted({entry.name for entry in self.contents.entries if entry.kind == "SUBSCRIPTION"})

    def columns_of_feature(self, database: Database) -> list[str]:
        """Those of the columns that the feature added which the dump holds."""
        there = self.columns.get(f"{database.schema_}.{database.table}", {})
        return [name for name in database.columns if name in there]


def newest(directory: Path, pattern: str) -> Path | None:
    """The newest file of a directory that matches; None where none does. Read-only."""
    return max(directory.glob(pattern), key=lambda path: path.stat().st_mtime, default=None)


def look(tools: DumpTools, path: Path) -> Dump:
    """Read a dump's table of contents and its schema. Read-only.

    Raises:
        AdapterError: It is no dump that our pg_restore reads.
    """
    contents = tools.contents(path)
    schema = contents.schema
    not_valid = frozenset(map(_plain, re.findall(rf"ADD CONSTRAINT ({_NAME}) .* NOT VALID;$", schema, re.MULTILINE)))
    return Dump(path, contents, columns_by_table(schema), not_valid, foreign_keys(schema))


def columns_by_table(schema: str) -> dict[str, dict[str, str]]:
    """The columns and types in the CREATE TABLE statements of pg_dump, by "schema.table". Pure."""
    return {
        _plain(found["name"]): {
            _plain(column["name"]): _AFTER_TYPE.split(column["rest"], maxsplit=1)[0].strip()
            for column in map(_COLUMN.match, _items(schema, found.end()))
            if column and column["name"] != "CONSTRAINT"
        }
        for found in _TABLE.finditer(schema)
    }


def foreign_keys(schema: str) -> tuple[DumpedKey, ...]:
    """The foreign keys in the SQL of pg_dump. Pure."""
    return tuple(
        DumpedKey(
            _plain(found["name"]),
            _of_two(found["table"]),
            tuple(_parts(found["columns"])),
            _of_two(found["target"]),
            found[0],
        )
        for found in _FOREIGN_KEY.finditer(schema)
    )


def _items(text: str, start: int) -> Iterator[str]:
    """The comma-separated items from `start` to the bracket that closes them; commas in quotes and brackets are theirs."""
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
    """A name of one or two parts as the catalog has it."""
    return ".".join(_parts(name))


def _of_two(name: str) -> Name:
    schema, own = _parts(name)
    return schema, own


def _parts(names: str) -> list[str]:
    """Names, each as the catalog has it."""
    parts = re.findall(r"\"((?:[^\"]|\"\")+)\"|([\w$]+)", names)
    return [quoted.replace('""', '"') or bare for quoted, bare in parts]
