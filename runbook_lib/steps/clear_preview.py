"""The preview of clearing a backfill, and the choice of strategy. Nothing here writes to the target."""

import hashlib
import json
from pathlib import Path

from runbook_lib.config.plan import Database
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, plan_fit
from runbook_lib.postgres.approved_rows import KeySet, approved_keys
from runbook_lib.postgres.backfill_removal.column import swap_blockers
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_terms import BackfillTerms, Survey
from runbook_lib.postgres.catalog import catalog
from runbook_lib.postgres.column_removal.definitions import of_table
from runbook_lib.postgres.connection import identity, rights_missing
from runbook_lib.postgres.dependents import (
    Trigger,
    cannot_keep_out,
    dependents,
    firing_line,
    objections,
    publications,
    replicated,
    triggers,
    whole_rows,
    would_lack_columns,
)
from runbook_lib.postgres.indexes import WATCH, Indexes
from runbook_lib.results import Found, Status
from runbook_lib.steps import Preview, backfill_step
from runbook_lib.steps.backfill_step import BackfillStep

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


def preview(step: BackfillStep) -> tuple[Preview, KeySet, backfill_step.Choice]:
    """Return the preview, the keys of the affected rows, kept in the run folder, and the strategy. Read-only.

    Raises:
        PreconditionError: The plan names something that does not exist, or rows cannot hold their previous values.
    """
    passing = step.context.adapters.scratch / f"{step.name}.keys"
    with step.looking() as connection:
        if not Records(step.backfill).exist(connection):  # once begun, indexes may be dropped
            _require_named(connection, step.backfill.database)
        here, whole = identity(connection), catalog(connection, step.context.target.database.schema_)
        shape = {name: it for name, it in whole.items() if step.context.folder.short not in name}  # not our own
        seen = step.backfill.survey(connection, step.backup)
        _require_fit(step, seen)
        backfill = seen.terms
        keys = approved_keys(connection, backfill, passing)
        published = [each.name for each in publications(connection, backfill.database)]
        others = replicated(connection, [backfill.table.as_string(connection)])
        chosen = _chosen(step, seen, connection, keys.count)
        kept_out, by_swap = step.chosen("TRIGGERS") == "keep_out", chosen.strategy == "swap"
        fires, rows = firing(connection, backfill, by_swap=by_swap), seen.kept if by_swap else keys.count
        if chosen.strategy == "batched" and not step.stopped:
            backfill_step.begin(step.context, step.name, connection, Indexes(backfill))
    kept = keys_file(step, keys.sha256)
    step.context.folder.keep(passing, kept.relative_to(step.context.folder.path).as_posix())
    spec = backfill.spec
    first, *more = seen.would
    found = Preview(
        step.name,
        step.title,
        would=[
            first.replace("{rows}", str(keys.count))
            + (f"; {spec.touch_column} becomes the present time" if spec.touch_column else ""),
            *more,
            f"strategy {chosen.strategy}: {chosen.because}",
            *(
                f"{name} is refused: {why}"
                for name, why in chosen.refused.items()
                if name != chosen.strategy and why not in chosen.because
            ),
            *firing_line(fires, rows, kept_out=kept_out),
            *(f"publication {name} sends each changed row to its subscribers" for name in published),
            *others,
            *([_UNUSED] if chosen.strategy == "batched" and not step.stopped else []),
            *([_WITHOUT] if chosen.strategy != "keyed" and step.stopped else []),
            *([_NEW_PLACE] if chosen.strategy == "swap" else []),
        ],
        loses=[*seen.loses],
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
            **({"triggers": "keep_out"} if kept_out else {}),
        },
        volumes={"rows": keys.count, **seen.volumes},
        keys=keys.sha256,
    )
    return found, keys, chosen


def choice(step: BackfillStep) -> backfill_step.Choice:
    """Choose the strategy for the current data, or take the one that the engineer requests. Read-only."""
    with step.looking() as connection:
        seen = step.backfill.survey(connection, step.backup)
        _require_fit(step, seen)
        return _chosen(step, seen, connection, seen.terms.count(connection))


def possible(step: BackfillStep, seen: backfill_step.Choice | None) -> Found:
    """Check that the strategy can be applied to the current data; `seen` is a preview's choice. Read-only."""
    chosen = seen or choice(step)
    refused = chosen.refused.get(chosen.strategy)
    return Status.FAIL if refused else Status.PASS, f"{chosen.strategy}: {refused or chosen.because}"


def keys_file(step: BackfillStep, sha256: str) -> Path:
    """Return the path in the run folder of the list of keys with that hash."""
    return step.context.folder.path / "evidence" / f"approved-rows-{sha256[:16]}.txt"


def _chosen(step: BackfillStep, seen: Survey, connection: Connection, affected: int) -> backfill_step.Choice:
    backfill = seen.terms
    hanging = [f"its column: {why}" for why in swap_blockers(connection, backfill)]
    hanging += would_lack_columns(connection, backfill.database)
    hanging += dependents(connection, backfill.database, [backfill.spec.name], backfill.run)
    hanging += whole_rows(connection, backfill.database)
    return backfill_step.choose(
        backfill_step.Circumstances(
            rows=seen.rows,
            affected=affected,
            kept=seen.kept,
            touches=backfill.spec.touch_column is not None,
            hanging=tuple(hanging),
            stopped=step.stopped,
            fired=_fired(
                connection,
                backfill,
                fills=bool(seen.kept) or not step.stopped,
                kept_out=step.chosen("TRIGGERS") == "keep_out",
            ),
        ),
        step.chosen("STRATEGY"),
    )


def fit_table(step: BackfillStep) -> Found:
    """Check that every row of the table can be found and written. Read-only."""
    with step.looking() as connection:
        lines = of_table(connection, step.backfill.database)
        missing = rights_missing(connection, step.entry.place.schema_, step.entry.place.table)
        lines += [f"our role may not {', '.join(missing)}"] if missing else []
    return (Status.FAIL, "; ".join(lines)) if lines else (Status.PASS, "it is")


def _require_named(connection: Connection, database: Database) -> None:
    if lines := plan_fit.feature_misfits(connection, database):
        raise PreconditionError(
            f"The plan names something that does not exist: {'; '.join(lines)}.",
            where=f"table {database.schema_}.{database.table}",
            state="Nothing was changed.",
            safe_next="Correct the plan, or find out who removed it; then preview again.",
        )


def _require_fit(step: BackfillStep, seen: Survey) -> None:
    if seen.misfits:
        raise PreconditionError(
            f"The backfill of {step.entry.column} cannot be removed: {'; '.join(seen.misfits)}.",
            where=f"table {step.entry.place.schema_}.{step.entry.place.table}",
            state="Nothing was changed.",
            safe_next="Correct `backfills` in the plan, or those rows; then preview again.",
        )


def firing(connection: Connection, backfill: BackfillTerms, *, by_swap: bool = False) -> list[Trigger]:
    """Return the triggers that fire for a cleared row. Read-only.

    A swap fires only those without a list of columns, for the rows that it fills.
    """
    spec = backfill.spec
    written = set() if by_swap else {spec.name, *([spec.touch_column] if spec.touch_column else [])}
    found = triggers(connection, backfill.table, "UPDATE", backfill.run)
    return [each for each in found if not each.columns or written & {*each.columns}]


def _fired(connection: Connection, backfill: BackfillTerms, *, fills: bool, kept_out: bool) -> dict[str, str]:
    """Return strategy -> why its triggers must not fire; a swap fires only those without a list of columns."""
    spec, found = backfill.spec, triggers(connection, backfill.table, "UPDATE", backfill.run, kept_out=kept_out)
    touched = [spec.touch_column] if spec.touch_column else []
    in_place = objections(found, [spec.name, *touched], touched, backfill.database.triggers)
    by_swap = objections(found, [], touched, backfill.database.triggers) if fills else []
    if kept_out:
        in_place += cannot_keep_out(connection, backfill.table, "UPDATE", [spec.name, *touched])
        by_swap += cannot_keep_out(connection, backfill.table, "UPDATE", [])
    found_by = {"swap": by_swap, "batched": in_place, "keyed": in_place}
    return {strategy: "; ".join(lines) for strategy, lines in found_by.items() if lines}


_UNUSED = (
    f"an index on the column that nobody scans from now until the step, for at least {WATCH:g} s, is dropped during it,"
    " and rebuilt afterwards, both concurrently"
)
_WITHOUT = "the plan's indexes on the column are dropped during the step, since nobody uses the table, and then rebuilt"
_NEW_PLACE = (
    "the column becomes the table's last one: an INSERT or COPY without a list of columns, and statements prepared with"
    " SELECT *, must be adapted"
)
