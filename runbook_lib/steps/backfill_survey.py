"""What a preview says of a backfill's rows, by its kind, and what it needs to know of the backup for that."""

from dataclasses import dataclass, field
from functools import partial

import psycopg

from runbook_lib.errors import ParametersError, PreconditionError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.backfill import Backfill, list_misfits
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_statistics import BackfillStatistics
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.restore.fetch import FETCHED, PRIOR, fetched
from runbook_lib.postgres.scalar_backfill import ScalarTerms
from runbook_lib.postgres.scalar_fit import scalar_misfits, value_misfits
from runbook_lib.postgres.scalar_statistics import scalar_counts, without_earlier_value
from runbook_lib.steps.backfill_step import BackfillStep

EDITED = {"keep": "kept as they are", "clear": "cleared too", "list": "as decided, row by row"}


@dataclass(frozen=True)
class Survey:
    """The rows of a backfill's table."""

    terms: BackfillTerms  # with what the backup says
    rows: int
    kept: int  # that will not hold what most cleared rows hold
    would: tuple[str, ...] = ()  # with {rows} for how many are affected
    loses: tuple[str, ...] = ()
    volumes: dict[str, int] = field(default_factory=dict)
    misfits: tuple[str, ...] = ()  # why rows cannot hold what they held before


def survey(step: BackfillStep, connection: Connection) -> Survey:
    """Look at the rows of the step's backfill. Makes temporary tables, which end with the session; else read-only.

    Raises:
        PreconditionError: The backup lacks the table or the column, where its values are wanted.
    """
    backfill = step.backfill
    if isinstance(backfill, Backfill):
        if misfits := list_misfits(connection, backfill):
            return Survey(backfill, 0, 0, misfits=tuple(misfits))
        return _of_list(backfill, connection)
    assert isinstance(backfill, ScalarTerms)
    return _of_scalar(step, backfill, connection)


def _of_list(backfill: Backfill, connection: Connection) -> Survey:
    kinds, invisible = BackfillStatistics(backfill).kinds_and_invisible(connection)
    rows = {row["kind"]: int(row["rows"]) for row in kinds}
    total = sum(rows.values())
    return Survey(
        backfill,
        total,
        total - rows["null" if backfill.spec.cleared == "null" else "empty"] - rows["backfilled"],
        would=(
            f"take the backfilled entries out of {{rows}} rows of {backfill.database.table}",
            f"{rows['backfilled and own']} of them keep entries of their own, in their order",
            f"{rows['edited since']} rows hold entries that were edited since the backfill: {EDITED[backfill.spec.edited]}",
        ),
        loses=tuple(f"{number} rows: {what} (older code does not show it)" for what, number in invisible.items() if number),
    )


def _of_scalar(step: BackfillStep, backfill: ScalarTerms, connection: Connection) -> Survey:
    spec = backfill.spec
    if misfits := scalar_misfits(connection, backfill):
        return Survey(backfill, 0, 0, misfits=tuple(misfits))
    newer = None
    if spec.from_backup and backfill.bounds.prior is None:
        read_backup(step, backfill, connection)
        newer = without_earlier_value(connection, backfill, FETCHED)
        backfill = backfill.keep_prior(connection, FETCHED, PRIOR)
    counts = scalar_counts(connection, backfill)
    held = "NULL" if spec.cleared is None else repr(spec.cleared)
    again = "its value in the backup" if spec.from_backup else held
    lost = [f"{counts.edited} values of {spec.name} that users gave since the backfill"] if spec.edited == "clear" else []
    return Survey(
        backfill,
        counts.rows,
        counts.kept,
        would=(
            f"give {{rows}} rows of {backfill.database.table} {again} in {spec.name} again",
            f"{counts.edited} rows hold another value than the backfill wrote, by users since: {EDITED[spec.edited]}",
            *([f"{newer.count} rows came since the backup, so they keep what they hold: {newer}"] if newer else []),
        ),
        loses=tuple(lost if counts.edited else []),
        volumes={f"rows without a value of {spec.name} in the backup": newer.count} if newer else {},
        misfits=tuple(value_misfits(connection, backfill)),
    )


def read_backup(step: BackfillStep, backfill: BackfillTerms, connection: Connection) -> None:
    """Read the values that rows had out of the backup, into a temporary table. Changes nothing that outlasts the session.

    Raises:
        PreconditionError: The backup does not hold them, or they are none of the column's type.
    """
    database, adapters, name = backfill.database, step.context.adapters, backfill.spec.name
    if step.entry.edited == "list":
        raise ParametersError(
            f"What users edited of {step.entry.column} cannot be decided row by row where the backup has the values.",
            state="Nothing was touched.",
            safe_next="Choose `edited: keep` or `edited: clear` in the plan.",
        )
    dump = step.context.dump
    read = partial(fetched, connection, adapters.dump_tools, dump, (database.schema_, database.table))
    try:
        read([database.key, name], {}, lambda: None)
    except psycopg.DataError as error:
        raise PreconditionError(
            f"A value of {name} in the backup is none of its type: {error.diag.message_primary}.",
            where=str(dump.path),
            state="Nothing was changed.",
            safe_next="Choose another `cleared` in the plan, or another backup.",
        ) from None


def keep_earlier_values(step: BackfillStep, connection: Connection) -> None:
    """Keep the values that rows get again, once and for the whole run. Changes the runbook's own tables."""
    backfill = step.backfill
    if isinstance(backfill, ScalarTerms) and backfill.reads_earlier_values and backfill.bounds.prior is None:
        Records(backfill).prepare(connection)
        read_backup(step, backfill, connection)
        backfill.keep_prior(connection, FETCHED, backfill.prior)
