"""Puts rows that a salvage exported back into a database, later and by one command."""

import gzip
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, Postgres
from runbook_lib.adapters.postgres.dump import sha256
from runbook_lib.adapters.postgres.locks import Open
from runbook_lib.adapters.postgres.restore.cargo import Cargo, Progress
from runbook_lib.adapters.postgres.restore.carry import LISTED, Between, Carriage
from runbook_lib.adapters.postgres.restore.classes import EXPORTED, Kind
from runbook_lib.adapters.postgres.restore.export import COMMAND, MANIFEST
from runbook_lib.adapters.postgres.restore.outcome import Outcome, outcome
from runbook_lib.errors import PreconditionError, RunbookError

LOADED, WHOLE = "loaded", "whole"
BLOCK = 1 << 16


def reapply(database: Open, folder: Path, *, deletes: bool = True, between: Between = lambda part: None) -> Outcome:
    """Carry the rows of an export into a database; what is in the way is listed, never overwritten.

    Goes on where it stopped; a second time it only tells what it did. Changes the target.

    Raises:
        PreconditionError: The export is not whole.
    """
    manifest = read(folder)
    progress = Progress(f"{manifest['run']}_again")
    cargoes = [
        replace(Cargo.from_json(entry["cargo"]), store=f"cargo_{progress.run}_{number}")
        for number, entry in enumerate(manifest["tables"])
    ]
    with database() as connection:
        progress.begin(connection)
        if not progress.done(connection, LISTED):
            for cargo, entry in zip(cargoes, manifest["tables"], strict=True):
                load = partial(_load, connection, cargo, folder / entry["file"])
                progress.part(connection, LOADED, cargo.table, load, between)
            progress.part(connection, WHOLE, "", lambda: _list_whole(connection, progress, manifest["whole"]), between)
        carriage = Carriage(connection, cargoes, progress)
        if not progress.done(connection, LISTED):
            carriage.carry([kind for kind in EXPORTED if deletes or kind != Kind.DELETED], between)
        found = outcome(connection, progress, carriage)
        progress.drop(connection, [cargo.lies_in for cargo in cargoes])
        return found


def read(folder: Path) -> dict[str, Any]:
    """What an export says is in it, each file found as it was written. Read-only.

    Raises:
        PreconditionError: It is not whole.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        files = [*manifest["tables"], *manifest["whole"]]
        wrong = [entry["file"] for entry in files if sha256(folder / entry["file"]) != entry["sha256"]]
    except (OSError, ValueError, KeyError) as error:
        raise PreconditionError(
            f"The export cannot be read: {error!r}", where=str(folder), state="Nothing was changed."
        ) from error
    if wrong:
        raise PreconditionError(
            f"These files are not as they were written: {', '.join(wrong)}.",
            where=str(folder),
            state="Nothing was changed.",
            safe_next="Take the export from where it was kept first.",
        )
    return manifest


def _load(connection: Connection, cargo: Cargo, path: Path) -> int:
    cargo.make(connection)
    into = sql.SQL("COPY {} (runbook_kind, runbook_was, {}) FROM STDIN").format(
        cargo.lies_in, sql.SQL(", ").join(map(sql.Identifier, cargo.columns))
    )
    cursor = connection.cursor()
    with gzip.open(path) as file, cursor.copy(into) as rows:
        while block := file.read(BLOCK):
            rows.write(block)
    return cursor.rowcount


def _list_whole(connection: Connection, progress: Progress, entries: list[dict[str, Any]]) -> int:
    for entry in entries:
        reason = f"its {entry['rows']} rows lie in {entry['file']}, to be put back by hand: {entry['why']}"
        connection.execute(
            sql.SQL("INSERT INTO {} VALUES (%s, 'whole table', '', %s)").format(progress.conflicts), [entry["table"], reason]
        )
    return len(entries)


def main(arguments: list[str]) -> int:
    """Carry an export into the database of a libpq service, and say what became of it; 0 where nothing is left over."""
    if len(arguments) != 2:
        print(f"Usage: {COMMAND}", file=sys.stderr)
        return 2
    service, folder = arguments
    try:
        found = reapply(Postgres(service, "reapply").connect, Path(folder))
    except RunbookError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(found.as_json(), indent=2))
    return 3 if found.conflicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
