"""Write staged rows that were not applied into files, so that a person can decide on them later."""

import gzip
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from psycopg import sql

from runbook_lib.errors import PreconditionError, RunbookError
from runbook_lib.journal.folder import make_private, private
from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.connection import Postgres, one
from runbook_lib.postgres.dump import sha256
from runbook_lib.postgres.restore.applier import LISTED, Applier, Between
from runbook_lib.postgres.restore.diff import UNWATCHED, Ledger, Watch
from runbook_lib.postgres.restore.difference_kinds import EXPORTED, Kind
from runbook_lib.postgres.restore.shape import Table, tables, written
from runbook_lib.postgres.restore.staged_rows import MergeSql, Progress, StagedRows, recognised
from runbook_lib.postgres.restore.stream import pin, pinned

MANIFEST = "manifest.json"
COMMAND = "python -m runbook_lib.postgres.restore.export SERVICE FOLDER"
ROWS = 1000  # written between two calls of `heed`
COMMA = sql.SQL(", ")


@dataclass(frozen=True)
class Export:
    """What was written: the files, the rows of each kind in them, and tables written whole, with the reason."""

    folder: Path
    files: tuple[Path, ...] = ()
    rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    whole: Mapping[str, str] = field(default_factory=dict)
    command: str = COMMAND


def export(live: Open, applier: Applier, ledger: Ledger, folder: Path, watch: Watch = UNWATCHED) -> Export:
    """Write the staged rows that were not applied, and all rows of live tables that could not be staged.

    Reads the databases. Each file is written completely or not at all, the manifest last.
    """
    kinds = applier.finished_kinds()
    if kinds is None:
        raise PreconditionError(
            "Only some of the staged rows were applied yet, so the rest is not known.",
            state="Nothing was written.",
            safe_next="Apply the rest first; that resumes where it stopped.",
        )
    make_private(folder)
    for left in folder.glob("*.partial"):  # from a process that was killed
        left.unlink()
    staged = []
    for merge in applier.merges():
        if entry := _staged(applier.connection, merge, kinds, folder, watch.heed):
            staged.append(entry)
            watch.between(merge.staged.table)
    reasons = {name: "it is not in the backup" for name in ledger.tables_only_in_live}
    reasons |= {table.table: "its rows have no key" for table in ledger.untold}
    with live() as connection, pinned(connection):
        whole = []
        for table in (table for table in tables(connection).values() if written(table.id) in reasons):
            whole.append(_whole(connection, table, reasons[written(table.id)], folder, watch.heed))
            watch.between(written(table.id))
    manifest = folder / MANIFEST
    content = {"run": applier.progress.run, "command": COMMAND, "tables": staged, "whole": whole}
    partial = manifest.with_name(f"{MANIFEST}.partial")
    with open(partial, "w", encoding="utf-8", opener=private) as file:
        json.dump(content, file, indent=2)
    partial.rename(manifest)
    return Export(
        folder,
        (*(folder / entry["file"] for entry in (*staged, *whole)), manifest),
        {written((entry["cargo"]["schema"], entry["cargo"]["name"])): entry["rows"] for entry in staged},
        {entry["table"]: entry["why"] for entry in whole},
    )


def _staged(
    connection: Connection, merge: MergeSql, kinds: tuple[Kind, ...], folder: Path, heed: Callable[[], object]
) -> dict[str, Any] | None:
    """Write the rows of one table that were not applied, each with the hash of the row it would replace."""
    staged = merge.staged
    left = sql.SQL("(c.runbook_reason IS NOT NULL OR c.runbook_kind <> ALL ({}))").format(sql.Literal(list(map(str, kinds))))
    counts = connection.execute(
        sql.SQL("SELECT runbook_kind AS kind, count(*) AS n FROM {} c WHERE {} GROUP BY 1 ORDER BY 1").format(
            staged.store_id, left
        )
    ).fetchall()
    if not counts:
        return None
    there = sql.SQL("(SELECT {} FROM {} t WHERE {})")
    user, feature = (
        there.format(recognised(names), merge.table.rows, merge.same_row()) for names in (staged.user, staged.feature)
    )
    query = sql.SQL("""COPY (SELECT c.runbook_kind,
        CASE c.runbook_kind WHEN {new} THEN NULL WHEN {of_feature} THEN {feature} ELSE {user} END, {columns}
        FROM {store} c WHERE {left} ORDER BY c.runbook_row) TO STDOUT""").format(
        new=sql.Literal(str(Kind.NEW)),
        of_feature=sql.Literal(str(Kind.FEATURE)),
        feature=feature,
        user=user,
        columns=COMMA.join(sql.Identifier("c", name) for name in staged.columns),
        store=staged.store_id,
        left=left,
    )
    with connection.transaction():
        pin(connection)
        file = _write(connection, query, folder, staged.table, heed)
    return {"cargo": staged.as_json(), **file, "rows": {row["kind"]: row["n"] for row in counts}}


def _whole(connection: Connection, table: Table, why: str, folder: Path, heed: Callable[[], object]) -> dict[str, Any]:
    rows = one(connection, sql.SQL("SELECT count(*) AS n FROM {} t").format(table.rows))["n"]
    query = sql.SQL("COPY (SELECT * FROM {} t) TO STDOUT").format(table.rows)
    file = _write(connection, query, folder, written(table.id), heed)
    return {"table": written(table.id), **file, "rows": rows, "why": why}


def _write(
    connection: Connection, query: sql.Composed, folder: Path, table: str, heed: Callable[[], object]
) -> dict[str, str]:
    digest = hashlib.sha256(table.encode()).hexdigest()[:6]  # different names may become equal as file names
    name = re.sub(r"[^\w.-]", "_", table)
    path = folder / f"{name}.{digest}.copy.gz"
    partial = path.with_name(f"{path.name}.partial")
    with (
        open(partial, "wb", opener=private) as raw,
        gzip.open(raw, "wb", compresslevel=1) as file,
        connection.cursor().copy(query) as rows,
    ):
        for number, block in enumerate(rows):
            if number % ROWS == 0:
                heed()
            file.write(block)
    partial.rename(path)
    return {"file": path.name, "sha256": sha256(path)}


SEQUENCES = "sequences"  # the phase that raises them
EARLIER = "carried by earlier tries"  # the phase that records them
SAMPLES = 5  # conflicts shown per table


@dataclass(frozen=True)
class Conflict:
    """A row that could not be applied, or only in part, and why."""

    table: str
    kind: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.table} {self.key} ({self.kind}): {self.reason}"


@dataclass(frozen=True)
class Outcome:
    """What was applied, and what was not."""

    carried: Mapping[str, Mapping[Kind, int]] = field(default_factory=dict)  # table -> rows of each kind
    earlier: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # the same for interrupted tries
    conflicts: Mapping[str, int] = field(default_factory=dict)  # table -> rows that could not be applied
    samples: tuple[Conflict, ...] = ()  # a few of each table; all of them are in the table `conflicts_table`
    conflicts_table: str = ""
    columns_left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # table -> columns that it lacks
    sequences: Mapping[str, int] = field(default_factory=dict)  # sequence -> its raised value
    finished: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "carried": {table: {str(kind): n for kind, n in counts.items()} for table, counts in self.carried.items()},
            **({EARLIER: {table: dict(counts) for table, counts in self.earlier.items()}} if self.earlier else {}),
            "conflicts": dict(self.conflicts),
            "samples": [str(conflict) for conflict in self.samples],
            "conflicts table": self.conflicts_table,
            "columns left out": {table: list(names) for table, names in self.columns_left_out.items()},
            "sequences": dict(self.sequences),
            "finished": self.finished,
        }


def added(one: Mapping[str, Mapping[str, int]], other: Mapping[str, Mapping[Kind, int]]) -> dict[str, dict[str, int]]:
    """Add up the rows of each table and kind of two tries. Pure."""
    found = {table: dict(counts) for table, counts in one.items()}
    for table, counts in other.items():
        kinds = found.setdefault(table, {})
        for kind, rows in counts.items():
            kinds[str(kind)] = kinds.get(str(kind), 0) + rows
    return found


def outcome(connection: Connection, progress: Progress, applier: Applier) -> Outcome:
    """Return what was applied so far, and what was not. Read-only."""
    counts = connection.execute(
        sql.SQL('SELECT "table", count(*) AS n FROM {} GROUP BY 1 ORDER BY 1').format(progress.conflicts)
    ).fetchall()
    samples = connection.execute(
        sql.SQL("""SELECT "table", kind, key, reason FROM (
            SELECT *, row_number() OVER (PARTITION BY "table" ORDER BY kind, key, reason) AS place FROM {}) c
        WHERE place <= {} ORDER BY "table", place""").format(progress.conflicts, sql.Literal(SAMPLES))
    ).fetchall()
    return Outcome(
        applier.applied(),
        progress.done(connection, EARLIER).get("", {}),
        {row["table"]: row["n"] for row in counts},
        tuple(Conflict(**row) for row in samples),
        progress.conflicts.as_string(connection),
        applier.left_out(),
        progress.done(connection, SEQUENCES),
        bool(progress.done(connection, LISTED)),
    )


LOADED, WHOLE = "loaded", "whole"
BLOCK = 1 << 16


def reapply(database: Open, folder: Path, *, deletes: bool = True, between: Between = lambda part: None) -> Outcome:
    """Apply the rows of an export to a database; conflicts are listed, never overwritten.

    Resumes where it stopped; a second call only reports what was done. Changes the target.

    Raises:
        PreconditionError: The export is incomplete.
    """
    manifest = read(folder)
    progress = Progress(f"{manifest['run']}_again")
    staged_tables = [
        replace(StagedRows.from_json(entry["cargo"]), store=f"cargo_{progress.run}_{number}")
        for number, entry in enumerate(manifest["tables"])
    ]
    with database() as connection:
        progress.begin(connection)
        if not progress.done(connection, LISTED):
            for staged, entry in zip(staged_tables, manifest["tables"], strict=True):
                load = partial(_load, connection, staged, folder / entry["file"])
                progress.part(connection, LOADED, staged.table, load, between)
            progress.part(connection, WHOLE, "", lambda: _list_whole(connection, progress, manifest["whole"]), between)
        applier = Applier(connection, staged_tables, progress)
        if not progress.done(connection, LISTED):
            applier.apply([kind for kind in EXPORTED if deletes or kind != Kind.DELETED], between)
        found = outcome(connection, progress, applier)
        progress.drop(connection, [staged.store_id for staged in staged_tables])
        return found


def read(folder: Path) -> dict[str, Any]:
    """Read an export's manifest, after checking that each file is unchanged. Read-only.

    Raises:
        PreconditionError: The export is incomplete.
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
            f"These files were changed since they were written: {', '.join(wrong)}.",
            where=str(folder),
            state="Nothing was changed.",
            safe_next="First restore the export from your saved copy.",
        )
    return manifest


def _load(connection: Connection, staged: StagedRows, path: Path) -> int:
    staged.make(connection)
    into = sql.SQL("COPY {} (runbook_kind, runbook_was, {}) FROM STDIN").format(
        staged.store_id, sql.SQL(", ").join(map(sql.Identifier, staged.columns))
    )
    cursor = connection.cursor()
    with gzip.open(path) as file, cursor.copy(into) as rows:
        while block := file.read(BLOCK):
            rows.write(block)
    return cursor.rowcount


def _list_whole(connection: Connection, progress: Progress, entries: list[dict[str, Any]]) -> int:
    for entry in entries:
        reason = f"its {entry['rows']} rows are in {entry['file']}, to be restored by hand: {entry['why']}"
        connection.execute(
            sql.SQL("INSERT INTO {} VALUES (%s, 'whole table', '', %s)").format(progress.conflicts), [entry["table"], reason]
        )
    return len(entries)


def main(arguments: list[str]) -> int:
    """Apply an export to the database of a libpq service, and print the result; 0 if no row is left over."""
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
