"""What clearing a backfill would do here, and by which strategy. Nothing here writes to the target."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from runbook_lib import strategies
from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.catalog import catalog
from runbook_lib.adapters.postgres.census import Census
from runbook_lib.adapters.postgres.clearing import approved
from runbook_lib.adapters.postgres.clearing.indexes import Indexes
from runbook_lib.adapters.postgres.clearing.unlike import unlike
from runbook_lib.adapters.postgres.clearing.unused import WATCH
from runbook_lib.adapters.postgres.connection import Connection, Row, identity
from runbook_lib.adapters.postgres.dependents import dependents, update_triggers
from runbook_lib.steps import index_watch
from runbook_lib.steps.base import Preview

if TYPE_CHECKING:
    from runbook_lib.steps.clear_backfill import ClearBackfill

LOCKS = {
    "swap": "ACCESS EXCLUSIVE twice, for a moment each; row locks between them",
    "batched": "row locks, for about a quarter of a second a transaction",
    "keyed": "row locks, for a moment a transaction",
}
UNDONE_BY = {
    "swap": "the old column, kept until it is purged",
    "batched": "undo rows, one for each changed row, committed with it",
    "keyed": "undo rows, one for each changed row, committed with it",
}


def preview(step: ClearBackfill, backfill: Backfill) -> tuple[Preview, approved.Keys]:
    """The step's preview, and the keys of the rows that it is about, which are kept in the run folder. Read-only."""
    spec = backfill.database.backfill
    census = Census(backfill)
    passing = step.context.scratch / f"{step.name}.keys"
    with step.looking() as connection:
        here, kinds = identity(connection), census.kinds(connection)
        invisible = census.invisible(connection)
        keys = approved.keys(connection, backfill, passing)
        shape = catalog(connection)
        triggers = update_triggers(connection, backfill.database)
        chosen = _chosen(step, backfill, connection, kinds, keys.count)
        if chosen.strategy == "batched" and not step.stopped:
            index_watch.begin(step.context, step.name, connection, Indexes(backfill))
    kept = keys_file(step, keys.sha256)
    step.context.folder.keep(passing, kept.relative_to(step.context.folder.path).as_posix())
    found = Preview(
        step.name,
        step.title,
        would=[
            f"take the backfilled entries out of {keys.count} rows of {backfill.database.table}"
            + (f"; {spec.touch} becomes the present time" if spec.touch else ""),
            f"{_rows(kinds, 'backfilled and own')} of them keep entries of their own, in their order",
            f"{_rows(kinds, 'edited since')} rows hold entries that were edited since the backfill: {_EDITED[spec.edited]}",
            f"strategy {chosen.strategy}: {chosen.because}",
            *(f"{strategy} is out: {why}" for strategy, why in chosen.refused.items() if strategy != chosen.strategy),
            *([f"these triggers fire for each changed row: {', '.join(triggers)}"] if triggers else []),
            *([_UNUSED] if chosen.strategy == "batched" and not step.stopped else []),
            *([_WITHOUT] if chosen.strategy != "keyed" and step.stopped else []),
            *([_NEW_PLACE] if chosen.strategy == "swap" else []),
        ],
        loses=[f"{number} rows: {what} (older code does not show it)" for what, number in invisible.items() if number],
        locks=LOCKS[chosen.strategy],
        undone_by=UNDONE_BY[chosen.strategy],
        estimate=step.spec.estimate,
        facts={
            "server": here.system,
            "database": here.database,
            "catalog": hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest(),
            "edited": spec.edited,
            "decided": hashlib.sha256(json.dumps(sorted(backfill.bounds.decided)).encode()).hexdigest()[:16],
            "strategy": chosen.strategy,
        },
        volumes={"rows": keys.count},
        keys=keys.sha256,
    )
    return found, keys


def choice(step: ClearBackfill, backfill: Backfill) -> strategies.Choice:
    """The strategy for what is there now, or the one that the engineer wants. Read-only."""
    with step.looking() as connection:
        kinds = Census(backfill).kinds(connection)
        return _chosen(step, backfill, connection, kinds, backfill.count(connection))


def keys_file(step: ClearBackfill, sha256: str) -> Path:
    """Where the run folder has the list of keys of that hash."""
    return step.context.folder.path / "evidence" / f"approved-rows-{sha256[:16]}.txt"


def _chosen(
    step: ClearBackfill, backfill: Backfill, connection: Connection, kinds: list[Row], affected: int
) -> strategies.Choice:
    hanging = [f"its column: {why}" for why in unlike(connection, backfill)]
    hanging += dependents(connection, backfill.database, [backfill.database.backfill.column])
    total = sum(row["rows"] for row in kinds)
    like_cleared = "null" if backfill.database.backfill.cleared == "null" else "empty"
    return strategies.choose(
        strategies.Circumstances(
            rows=total,
            affected=affected,
            kept=total - _rows(kinds, like_cleared) - _rows(kinds, "backfilled"),
            touches=backfill.database.backfill.touch is not None,
            hanging=tuple(hanging),
            stopped=step.stopped,
        ),
        step.chosen("STRATEGY"),
    )


def _rows(kinds: list[Row], kind: str) -> int:
    return int(next(row["rows"] for row in kinds if row["kind"] == kind))


_EDITED = {"keep": "kept as they are", "clear": "cleared too", "list": "as decided, row by row"}
_UNUSED = (
    f"an index on the column that nobody scans from now until then, for {WATCH:g} s at least, is dropped meanwhile, and made"
    " anew afterwards, both concurrently"
)
_WITHOUT = "the plan's indexes on the column are dropped meanwhile, since nobody uses the table, and made anew afterwards"
_NEW_PLACE = (
    "the column comes to stand last in the table: an INSERT or COPY without a list of columns, and statements prepared with"
    " SELECT *, must be made anew"
)
