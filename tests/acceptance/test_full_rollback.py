"""The full rollback, notebook by notebook, on real parts."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, LiteralString

import nbformat
import psycopg
import pytest

from runbook_lib import archive, closing, conductor, loop
from runbook_lib.errors import PreconditionError, StepFailed, UnknownOutcome
from runbook_lib.journal import Journal
from runbook_lib.opening import open_existing
from runbook_lib.rehearsal.polling import until
from runbook_lib.rehearsal.postgres import embedded_server
from runbook_lib.rehearsal.server import debian_programs
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run
from runbook_lib.state import replay

from .conftest import up

Begin = Callable[..., Run]
RUNBOOK = str(Path(sys.executable).with_name("runbook"))


def as_previewed(run: Run) -> str:
    return run.previews()[0]


def told(_: str) -> None:
    pass


def approved(run: Run) -> Run:
    run.approve(run.previews()[0], "tester")
    return run


def application(running: Stack) -> psycopg.Connection:
    return psycopg.connect(running.database.conninfo(running.database.application), autocommit=True)


def asked(running: Stack, query: LiteralString) -> list[Any]:
    with application(running) as connection:
        return connection.execute(query).fetchall()


def repository_files(running: Stack) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for name in ("backend", "frontend")
        for path in (running.root / name).rglob("*")
        if path.is_file()
    }


def kinds(run: Run) -> list[tuple[str, str]]:
    return [(e.kind, e.data.get("step", "")) for e in run.journal.events()]


def test_the_notebooks_lead_from_triage_to_a_verified_end_and_can_be_read_afterwards(broken: Stack, begin: Begin) -> None:
    run = begin("")

    assert conductor.execute(run.folder.path, "01-triage", {}, told) is None
    outcome = conductor.carry_out(run.folder.path, as_previewed, {}, told)
    conductor.execute(run.folder.path, "04-verification", {}, told)
    conductor.execute(run.folder.path, "05-close-out", {"NOTES": "A note of the tester."}, told)

    state = run.state
    assert (outcome.status, state.type) == ("verified", "full")
    assert {c["status"] for c in state.checks["after"].values()} == {"PASS"}
    assert len(state.checks["after"]) == 14
    notebook = nbformat.read(run.folder.path / "03-full-rollback.ipynb", as_version=4)
    assert {c.metadata.papermill.status for c in notebook.cells} == {"completed"}
    log = (run.folder.path / "rollback-log.md").read_text()
    assert log.count("- [x]") == 6
    assert "A note of the tester." in log
    report = (run.folder.path / "report.html").read_text()
    assert "VERIFIED" in report
    assert not re.search(r"(?:src|href)=[\"']?https?:|@import", report)
    assert archive.verify(run.folder.path) == []


def test_users_rows_are_kept_and_what_they_posted_in_between_too(broken: Stack, begin: Begin) -> None:
    own = "SELECT id, content, media_url, replied_to_message_id, created_at FROM messages ORDER BY id"
    uploads = "SELECT count(*) FROM messages, jsonb_array_elements(attachments) e WHERE e->>'source' = 'upload'"
    before = asked(broken, own), asked(broken, uploads)
    run = approved(begin("full"))

    for name in run.steps:
        loop.apply(run, name)

    assert (asked(broken, own), asked(broken, uploads)) == before


def test_one_untouched_cell_corrupted_meanwhile_stops_the_run(
    broken: Stack, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = approved(begin("full"))
    loop.apply(run, "stop-services")
    loop.apply(run, "back-up")
    report = run.context.report

    def and_corrupt(kind: str, /, **data: object) -> None:
        if kind == "progress":
            with application(broken) as connection:
                connection.execute("UPDATE messages SET content = 'corrupted' WHERE id = 7")
        report(kind, **data)

    monkeypatch.setattr(run.context, "report", and_corrupt)

    with pytest.raises(StepFailed, match="the fingerprints differ; written since: 7"):
        loop.apply(run, "clear-backfill")

    assert run.state.checks["step:clear-backfill"]["clear-backfill: proof"]["status"] == "FAIL"


def test_a_step_killed_in_the_middle_is_picked_up_in_the_same_folder(broken: Stack, begin: Begin) -> None:
    run = begin("full")
    digest = as_previewed(run)
    run.close_adapters()
    command = [RUNBOOK, "run", str(run.folder.path), "--approve", digest]
    with psycopg.connect(broken.database.conninfo()) as blocker:
        blocker.execute("LOCK TABLE messages IN SHARE MODE")  # reads go on, the step's writes wait
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        assert until(lambda: ("started", "clear-backfill") in kinds(run), 90)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        with broken.database.server.connect() as superuser:
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'runbook%'"
            )
    assert run.state.step("clear-backfill").status in ("started", "failed")

    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)

    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["outcome"]["status"] == "verified"
    assert [name for kind, name in kinds(run) if kind == "started"].count("back-up") == 1
    assert [name for kind, name in kinds(run) if kind == "started"].count("clear-backfill") == 2
    assert {p.name for p in run.folder.path.glob("*.ipynb")} == {"03-full-rollback.ipynb", "03-full-rollback-2.ipynb"}


def test_a_backup_that_cannot_be_made_stops_the_run_unless_waived_with_a_reason(
    broken: Stack, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = approved(begin("full"))
    loop.apply(run, "stop-services")
    monkeypatch.setattr("runbook_lib.adapters.postgres.dump.DumpTools._path", lambda self, tool: "false")

    with pytest.raises(StepFailed, match="Back up"):
        loop.apply(run, "back-up")

    run.waive("back-up", "pg_dump cannot read the broken index any more")
    assert "waived" in loop.apply(run, "back-up").how
    assert not run.state.step("back-up").is_done


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


def test_every_step_can_be_undone(broken: Stack, begin: Begin) -> None:
    run = approved(begin("full"))
    rows = "SELECT to_jsonb(m) FROM messages m ORDER BY id"
    before = asked(broken, rows)
    heads = [run.context.checkout(name).head() for name in ("backend", "frontend")]
    for name in run.steps:
        loop.apply(run, name)

    for name in reversed(run.steps):
        loop.undo(run, name)

    assert asked(broken, rows) == before
    assert [run.context.checkout(name).head() for name in ("backend", "frontend")] == heads
    assert {step.status for step in run.state.steps.values()} == {"undone"}
    assert [r.status for r in run.observe("undone", ["services-running"])] == ["PASS"]


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


def test_a_digest_that_was_not_previewed_is_declined_and_nothing_is_touched(broken: Stack, begin: Begin) -> None:
    run = begin("full")
    command = [RUNBOOK, "run", str(run.folder.path), "--approve", "0123456789abcdef"]

    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert run.state.steps == {}
    assert open_existing(run.folder.path).state.outcome["status"] == "declined"  # type: ignore[index]


def test_an_older_server_can_take_the_embedded_ones_place(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = debian_programs(15)
    if programs is None:
        pytest.skip("PostgreSQL 15 is not installed; `.ci/setup test` installs it, as root on Debian 12")
    with embedded_server(programs) as server:
        file = tmp_path / "services"
        file.write_text("\n".join(["[other]", *(f"{name}={value}" for name, value in server.parameters.items()), ""]))
        monkeypatch.setenv("PGSERVICEFILE", str(file))
        monkeypatch.setenv("REHEARSAL_SERVER", "service=other")
        with up("all-media-missing"):
            run = approved(begin("full"))
            run.look_before()
            for name in run.steps:
                loop.apply(run, name)

            assert {r.status for r in closing.verify(run)} == {"PASS"}
            run.close_adapters()
        with server.connect() as superuser:
            left = superuser.execute("SELECT datname FROM pg_database WHERE datname LIKE 'social%'").fetchall()
    assert left == []


def test_a_conflict_is_told_again_when_the_preview_is_taken_again(broken_frontend: Stack, begin: Begin) -> None:
    checkout = broken_frontend.root / "frontend"
    (checkout / "src" / "app.js").write_text("something else altogether\n")
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--all", "--message=Rewrite"]
    subprocess.run(command, cwd=checkout, check=True)
    run = begin("frontend")

    for _ in range(2):
        with pytest.raises(PreconditionError, match="conflicts with later work"):
            run.previews()
