"""A migration, tried by the smallest rehearsal in a database of the test's own."""

from collections.abc import Callable
from pathlib import Path

from runbook_lib.rehearsal.migration import Rehearsal, rehearse
from runbook_lib.rehearsal.postgres import Server

Try = Callable[[str, str, str], Rehearsal]


def trier(server: Server, folder: Path, name: str) -> Try:
    """What tries a migration: before, its script, and use afterwards, as SQL."""
    numbers = iter(range(100))

    def tried(before: str, migration: str, use: str = "") -> Rehearsal:
        database = f"{name}_{next(numbers)}"
        files = {part: folder / f"{database}-{part}.sql" for part in ("before", "up", "use")}
        for part, text in zip(files, (before, migration, use), strict=True):
            files[part].write_text(text)
        with server.connect() as connection:
            connection.execute(f"CREATE DATABASE {database} TEMPLATE template0")  # type: ignore[call-overload]
        try:
            dsn = server.conninfo(dbname=database)
            return rehearse(files["before"], [files["up"]], files["use"], dsn, lambda _: None)
        finally:
            with server.connect() as connection:
                connection.execute(f"DROP DATABASE {database} WITH (FORCE)")  # type: ignore[call-overload]

    return tried
