"""The dry run on a live target, and what else only reads: it reads, and nothing else. So all share one target."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from runbook_lib.errors import UnknownOutcome
from runbook_lib.headless import dry_run
from runbook_lib.journal import Journal
from runbook_lib.journal.state import replay
from runbook_lib.postgres.catalog import catalog
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.results import Status
from runbook_lib.run import Run, lifecycle
from runbook_lib.steps.ddl_dry_run import EXERCISE, NAME

from ..support.places import PLAN, TARGET
from ..support.stacks import RUNBOOK, asked, up

Begin = Callable[..., Run]
TABLES = "messages, conversations, users, schema_migrations"


@pytest.fixture(scope="module")
def broken() -> Iterator[Stack]:
    """A stack on which no media reach any client, and which no test here changes."""
    with up("all-media-missing") as running:
        yield running


@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_the_dry_run_locks_access_share_at_most_and_changes_nothing(broken: Stack, tmp_path: Path, option: str) -> None:
    about = {"operator": "tester", "reason": "only looking", "outputs": tmp_path}
    run = lifecycle.open_new(PLAN, TARGET, "full", option=option, **about)  # type: ignore[arg-type]
    conninfo = broken.database.conninfo(broken.database.application)
    rows = "SELECT md5(string_agg(m::text, ',' ORDER BY id)) FROM messages m"
    with run.context.adapters.postgres.connect() as connection:
        shape = catalog(connection)

    # Nothing but ACCESS SHARE is granted next to EXCLUSIVE: whatever asks for more waits, and fails.
    with psycopg.connect(conninfo) as application:
        application.execute(f"LOCK TABLE {TABLES} IN EXCLUSIVE MODE")
        before = application.execute(rows).fetchone()

        found = dry_run.dry_run(run)

        assert application.execute(rows).fetchone() == before
    with run.context.adapters.postgres.connect() as connection:
        assert catalog(connection) == shape
    run.close_adapters()
    assert found.previews
    tried = {"A": ["batched and undo"], "B": ["quarantine and undo"], "C": []}[option]
    ddl = [result for result in found.tried if result.name == NAME]
    assert [(result.status, result.summary.split(":")[0]) for result in ddl] == [(Status.PASS, way) for way in tried]
    exercised = [result for result in found.tried if result.name == EXERCISE]
    assert [result.status for result in exercised] == [Status.PASS for _ in tried]
    assert all("the most frequent in pg_stat_statements" in result.summary for result in exercised)
    databases = "SELECT count(*) FROM pg_database WHERE datname LIKE '%tried%'"
    with psycopg.connect(conninfo) as application:
        assert application.execute(databases).fetchone() == (0,)


def repository_files(running: Stack) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for name in ("backend", "frontend")
        for path in (running.root / name).rglob("*")
        if path.is_file()
    }


def test_the_dry_run_leaves_no_trace_on_the_target(broken: Stack, tmp_path: Path) -> None:
    catalog = "SELECT count(*), max(oid::bigint) FROM pg_class"
    before = repository_files(broken), asked(broken, catalog), asked(broken, "SELECT * FROM messages ORDER BY id")
    command = [
        RUNBOOK,
        "plan",
        "--plan",
        "parameters/feat-2025-20251103111429.yaml",
        "--target",
        "parameters/rehearsal.yaml",
    ]

    done = subprocess.run([*command, "--type", "full", "--json"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout)
    assert [p["step"] for p in planned["previews"]][:3] == ["freeze", "stop-services", "back-up"]
    after = repository_files(broken), asked(broken, catalog), asked(broken, "SELECT * FROM messages ORDER BY id")
    assert after == before
    state = replay(Journal(Path(planned["run"]) / "journal.jsonl").events())
    shutil.rmtree(planned["run"])
    assert state.steps == {}


def test_a_digest_that_was_not_previewed_is_declined_with_no_effect(broken: Stack, begin: Begin) -> None:
    run = begin("full")
    command = [RUNBOOK, "run", str(run.folder.path), "--approve", "0123456789abcdef"]

    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert run.state.steps == {}
    assert lifecycle.open_existing(run.folder.path).state.outcome["status"] == "declined"  # type: ignore[index]


def test_a_wrong_token_is_unknown_and_never_taken_for_missing_data(
    broken: Stack, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REHEARSAL_API_TOKEN", "not-the-token-of-this-stack")
    run = begin("full")

    found = {r.name: r for r in run.observe("before", ["api-media-url", "latency-normal"])}

    assert {r.status for r in found.values()} == {"UNKNOWN"}
    assert "refused the token" in found["api-media-url"].summary
    with pytest.raises(UnknownOutcome):
        run.require(list(found.values()))
