"""The dry run on a live target: it reads, and nothing else."""

from pathlib import Path

import psycopg
import pytest

from runbook_lib import dryrun, opening
from runbook_lib.adapters.postgres.catalog import catalog
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.results import Status

from .conftest import PLAN, TARGET

TABLES = "messages, conversations, users, schema_migrations"


@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_the_dry_run_takes_no_lock_above_access_share_and_changes_neither_catalog_nor_data(
    broken: Stack, tmp_path: Path, option: str
) -> None:
    about = {"operator": "tester", "reason": "only looking", "outputs": tmp_path}
    run = opening.open_new(PLAN, TARGET, "full", option=option, **about)  # type: ignore[arg-type]
    conninfo = broken.database.conninfo(broken.database.application)
    rows = "SELECT md5(string_agg(m::text, ',' ORDER BY id)) FROM messages m"
    with run.context.postgres.connect() as connection:
        shape = catalog(connection)

    # Nothing but ACCESS SHARE is granted beside EXCLUSIVE: whatever asks for more waits, and fails.
    with psycopg.connect(conninfo) as application:
        application.execute(f"LOCK TABLE {TABLES} IN EXCLUSIVE MODE")
        before = application.execute(rows).fetchone()

        found = dryrun.dry_run(run)

        assert application.execute(rows).fetchone() == before
    with run.context.postgres.connect() as connection:
        assert catalog(connection) == shape
    run.close_adapters()
    assert found.previews
    tried = {"A": ["batched and undo"], "B": ["quarantine and undo"], "C": []}[option]
    assert [(result.status, result.summary.split(":")[0]) for result in found.tried] == [(Status.PASS, way) for way in tried]
    databases = "SELECT count(*) FROM pg_database WHERE datname LIKE '%tried%'"
    with psycopg.connect(conninfo) as application:
        assert application.execute(databases).fetchone() == (0,)
