"""A table whose plain column a job filled, and what taking that back gives."""

from pathlib import Path
from typing import Any

import psycopg

from runbook_lib.config.plan import ScalarBackfill
from runbook_lib.postgres.approved_rows import approved_keys, load_approved
from runbook_lib.postgres.backfill_kinds import backfill_terms
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_removal.removal import BackfillRemoval
from runbook_lib.postgres.catalog import make_own_schema
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.postgres.scalar_backfill import ScalarTerms


def terms(connection: Connection, run: str = "test", **keys: Any) -> ScalarTerms:
    found = backfill_terms(connection, ScalarBackfill.model_validate({"cleared": None, **keys}), None, run)
    assert isinstance(found, ScalarTerms)
    return found


def with_backup(connection: Connection, backfill: ScalarTerms, backup: str) -> ScalarTerms:
    """The same, where another table holds what the backup does."""
    make_own_schema(connection)
    read = psycopg.sql.Identifier("public", backup)
    return backfill.keep_prior(connection, read, backfill.prior)


def taken_back(
    postgres: Postgres, backfill: ScalarTerms, strategy: str, *, stopped: bool = True
) -> tuple[BackfillRemoval, list[str] | None]:
    """Take the backfill back; the removal, and in what its proof differs."""
    work = BackfillRemoval(postgres.connect, backfill, strategy, stopped)
    with postgres.connect() as connection:
        Records(backfill).prepare(connection)
        work.proof.record(connection)
    work.apply()
    with postgres.connect() as connection:
        return work, work.proof.differences(connection)


def bound(connection: Connection, backfill: ScalarTerms, folder: Path) -> ScalarTerms:
    """The same, of the rows that are affected now alone."""
    approved_keys(connection, backfill, folder / "keys")
    load_approved(connection, backfill, folder / "keys")
    return backfill.among_approved()


def values(application: psycopg.Connection, query: str) -> list[Any]:
    return [row[0] for row in application.execute(query).fetchall()]  # type: ignore[call-overload]
