"""Writes staged rows that were not carried into files, so that a person can decide on them later."""

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.dump import sha256
from runbook_lib.adapters.postgres.locks import Open
from runbook_lib.adapters.postgres.restore.binding import Binding
from runbook_lib.adapters.postgres.restore.cargo import recognised
from runbook_lib.adapters.postgres.restore.carry import Carriage
from runbook_lib.adapters.postgres.restore.classes import Kind
from runbook_lib.adapters.postgres.restore.diff import UNWATCHED, Watch
from runbook_lib.adapters.postgres.restore.ledger import Ledger
from runbook_lib.adapters.postgres.restore.shape import Table, tables, written
from runbook_lib.adapters.postgres.restore.stream import pin, pinned
from runbook_lib.errors import PreconditionError

MANIFEST = "manifest.json"
COMMAND = "python -m runbook_lib.adapters.postgres.restore.reapply SERVICE FOLDER"
ROWS = 1000  # written between two looks at what is wanted
COMMA = sql.SQL(", ")


@dataclass(frozen=True)
class Export:
    """What was written: the files, the rows of each kind in them, and tables that were written whole, with the reason."""

    folder: Path
    files: tuple[Path, ...] = ()
    rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    whole: Mapping[str, str] = field(default_factory=dict)
    command: str = COMMAND


def export(live: Open, carriage: Carriage, ledger: Ledger, folder: Path, watch: Watch = UNWATCHED) -> Export:
    """Write the staged rows that were not carried, and whole the live tables whose rows could not be staged.

    Reads the databases; a file is there whole or not at all, and the manifest last.
    """
    kinds = carriage.finished_kinds()
    if kinds is None:
        raise PreconditionError(
            "Only some of the staged rows were carried yet, so what is left is not known.",
            state="Nothing was written.",
            safe_next="Carry the rest first; that goes on where it stopped.",
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    staged = []
    for binding in carriage.bindings():
        if entry := _staged(carriage.connection, binding, kinds, folder, watch.heed):
            staged.append(entry)
            watch.between(binding.cargo.table)
    reasons = {name: "it is not in the backup" for name in ledger.tables_only_in_live}
    reasons |= {table.table: "its rows have no key" for table in ledger.untold}
    with live() as connection, pinned(connection):
        whole = []
        for table in (table for table in tables(connection).values() if written(table.id) in reasons):
            whole.append(_whole(connection, table, reasons[written(table.id)], folder, watch.heed))
            watch.between(written(table.id))
    manifest = folder / MANIFEST
    content = {"run": carriage.progress.run, "command": COMMAND, "tables": staged, "whole": whole}
    partial = manifest.with_name(f"{MANIFEST}.partial")
    partial.write_text(json.dumps(content, indent=2))
    partial.rename(manifest)
    return Export(
        folder,
        (*(folder / entry["file"] for entry in (*staged, *whole)), manifest),
        {written((entry["cargo"]["schema"], entry["cargo"]["name"])): entry["rows"] for entry in staged},
        {entry["table"]: entry["why"] for entry in whole},
    )


def _staged(
    connection: Connection, binding: Binding, kinds: tuple[Kind, ...], folder: Path, heed: Callable[[], object]
) -> dict[str, Any] | None:
    """Write the rows of one table that were not carried, each with the hash of what it is to replace."""
    cargo = binding.cargo
    left = sql.SQL("(c.runbook_reason IS NOT NULL OR c.runbook_kind <> ALL ({}))").format(sql.Literal(list(map(str, kinds))))
    counts = connection.execute(
        sql.SQL("SELECT runbook_kind AS kind, count(*) AS n FROM {} c WHERE {} GROUP BY 1 ORDER BY 1").format(
            cargo.lies_in, left
        )
    ).fetchall()
    if not counts:
        return None
    there = sql.SQL("(SELECT {} FROM {} t WHERE {})")
    user, feature = (
        there.format(recognised(names), binding.table.rows, binding.same_row()) for names in (cargo.user, cargo.feature)
    )
    query = sql.SQL("""COPY (SELECT c.runbook_kind,
        CASE c.runbook_kind WHEN {new} THEN NULL WHEN {of_feature} THEN {feature} ELSE {user} END, {columns}
        FROM {store} c WHERE {left} ORDER BY c.runbook_row) TO STDOUT""").format(
        new=sql.Literal(str(Kind.NEW)),
        of_feature=sql.Literal(str(Kind.FEATURE)),
        feature=feature,
        user=user,
        columns=COMMA.join(sql.Identifier("c", name) for name in cargo.columns),
        store=cargo.lies_in,
        left=left,
    )
    with connection.transaction():
        pin(connection)
        file = _write(connection, query, folder, cargo.table, heed)
    return {"cargo": cargo.as_json(), **file, "rows": {row["kind"]: row["n"] for row in counts}}


def _whole(connection: Connection, table: Table, why: str, folder: Path, heed: Callable[[], object]) -> dict[str, Any]:
    rows = one(connection, sql.SQL("SELECT count(*) AS n FROM {} t").format(table.rows))["n"]
    query = sql.SQL("COPY (SELECT * FROM {} t) TO STDOUT").format(table.rows)
    file = _write(connection, query, folder, written(table.id), heed)
    return {"table": written(table.id), **file, "rows": rows, "why": why}


def _write(
    connection: Connection, query: sql.Composed, folder: Path, table: str, heed: Callable[[], object]
) -> dict[str, str]:
    digest = hashlib.sha256(table.encode()).hexdigest()[:6]  # names may become the same once they fit a file
    name = re.sub(r"[^\w.-]", "_", table)
    path = folder / f"{name}.{digest}.copy.gz"
    partial = path.with_name(f"{path.name}.partial")
    with gzip.open(partial, "wb", compresslevel=1) as file, connection.cursor().copy(query) as rows:
        for number, block in enumerate(rows):
            if number % ROWS == 0:
                heed()
            file.write(block)
    partial.rename(path)
    return {"file": path.name, "sha256": sha256(path)}
