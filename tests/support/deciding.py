"""A database in which a migration is tried with a person's decisions, and which is kept for inspection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.config.plan import Decision
from runbook_lib.rehearsal.migration import Rehearsal, rehearse
from runbook_lib.rehearsal.postgres import Server

NAME = "decided"


@dataclass
class Deciding:
    """An empty database, and what tries a migration in it."""

    server: Server
    folder: Path

    def __call__(self, before: str, migration: str, use: str, **decide: object) -> Rehearsal:
        """Take a migration back with decisions, by names in which `__` is a dot."""
        files = [self.folder / name for name in ("before.sql", "up.sql", "use.sql")]
        for file, text in zip(files, (before, migration, use), strict=True):
            file.write_text(text)
        decisions = {name.replace("__", "."): Decision.model_validate(each) for name, each in decide.items()}
        return rehearse(files[0], [files[1]], files[2], self.server.conninfo(dbname=NAME), lambda _: None, decisions)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What a query returns of the database by now."""
        with self.server.connect(dbname=NAME) as connection:
            return connection.execute(query).fetchall()  # type: ignore[call-overload]


@contextmanager
def deciding(server: Server, folder: Path) -> Iterator[Deciding]:
    """A database of that kind, until the block ends."""
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {NAME} TEMPLATE template0")
    yield Deciding(server, folder)
    with server.connect() as connection:
        connection.execute(f"DROP DATABASE {NAME} WITH (FORCE)")
