"""A table's rows as pg_restore writes them out of a dump: a COPY command with its data."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NULL = b"\\N"
_COPY = re.compile(rb'COPY (?:[^"(]|"(?:[^"]|"")*")*\((?P<columns>.*)\) FROM stdin;\s*$')
_NAME = re.compile(r'"((?:[^"]|"")+)"|([^\s,"]+)')

Fields = list[bytes]  # of one row, each as COPY's text, NULL as `NULL`


@contextmanager
def rows(path: Path) -> Iterator[tuple[list[str], Iterator[Fields]]]:
    """The names of the columns, and each row's fields in that order; no names where the file holds no data. Read-only."""
    with open(path, "rb") as file:
        for line in file:
            if begun := _COPY.match(line):
                names = _NAME.findall(begun["columns"].decode())
                yield [quoted.replace('""', '"') or bare for quoted, bare in names], _fields(file)
                return
        yield [], iter(())


def _fields(lines: Iterator[bytes]) -> Iterator[Fields]:
    for line in lines:
        if line == b"\\.\n":
            return
        yield line.rstrip(b"\n").split(b"\t")
