"""The full rollback on real parts, where something goes wrong or is undone."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from runbook_lib.errors import PreconditionError, StepFailed
from runbook_lib.rehearsal.postgres import debian_programs, embedded_server
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.rehearsal.workspace import until
from runbook_lib.run import Run, engine, lifecycle

from ..support.stacks import RUNBOOK, as_previewed, asked, up

Begin = Callable[..., Run]


def approved(run: Run) -> Run:
    run.approve(run.previews()[0], "tester")
    return run


def application(running: Stack) -> psycopg.Connection:
    return psycopg.connect(running.database.conninfo(running.database.application), autocommit=True)


def kinds(run: Run) -> list[tuple[str, str]]:
    return [(e.kind, e.data.get("step", "")) for e in run.journal.events()]


def test_one_untouched_cell_corrupted_meanwhile_stops_the_run(
    broken: Stack, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = approved(begin("full"))
    engine.apply(run, "stop-services")
    engine.apply(run, "back-up")
    report = run.context.reporter.append

    def and_corrupt(kind: str, /, **data: object) -> None:
        if kind == "progress":
            with application(broken) as connection:
                connection.execute("UPDATE messages SET content = 'corrupted' WHERE id = 7")
        report(kind, **data)

    monkeypatch.setattr(run.context, "reporter", replace(run.context.reporter, append=and_corrupt))

    with pytest.raises(StepFailed, match="the fingerprints differ; written since: 7"):
        engine.apply(run, "clear-backfill")

    assert run.state.checks["step:clear-backfill"]["clear-backfill: proof"]["status"] == "FAIL"


@pytest.mark.parametrize(
    ("spoiled", "told"),
    [
        pytest.param(False, "in this run's backup and not in the table: 7, 11\\n", id="named"),
        pytest.param(True, "the missing rows could not be read from before_rollback_", id="the backup cannot be read"),
    ],
)
def test_rows_that_go_meanwhile_stop_the_run_and_its_backup_names_them(
    broken: Stack, begin: Begin, monkeypatch: pytest.MonkeyPatch, spoiled: bool, told: str
) -> None:
    run = approved(begin("full"))
    engine.apply(run, "stop-services")
    engine.apply(run, "back-up")
    report = run.context.reporter.append
    if spoiled:
        Path(run.state.step("back-up").outcome["file"]).write_bytes(b"")

    def and_delete(kind: str, /, **data: object) -> None:
        if kind == "progress":
            with application(broken) as connection:
                connection.execute("DELETE FROM messages WHERE id IN (7, 11)")
        report(kind, **data)

    monkeypatch.setattr(run.context, "reporter", replace(run.context.reporter, append=and_delete))

    with pytest.raises(StepFailed, match=told):
        engine.apply(run, "clear-backfill")


@pytest.mark.slow
def test_a_step_killed_in_the_middle_is_resumed_in_the_same_folder(broken: Stack, begin: Begin) -> None:
    run = begin("full")
    digest = as_previewed(run)
    run.close_adapters()
    command = [RUNBOOK, "run", str(run.folder.path), "--approve", digest]
    with psycopg.connect(broken.database.conninfo()) as blocker:
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        assert until(lambda: any(event.kind == "approved" for event in run.journal.events()), 90)
        blocker.execute("LOCK TABLE messages IN SHARE MODE")  # reads go on, the step's writes wait
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


def test_a_backup_that_fails_stops_the_run_unless_waived_with_a_reason(broken: Stack, begin: Begin, tmp_path: Path) -> None:
    run = approved(begin("full"))
    engine.apply(run, "stop-services")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("pg_dump", "pg_restore"):
        (tools / name).symlink_to("/bin/false")
    adapters = run.context.adapters
    run.context.adapters = adapters.but(dump_tools=replace(adapters.dump_tools, directory=str(tools)))

    with pytest.raises(StepFailed, match="Back up"):
        engine.apply(run, "back-up")

    run.waive("back-up", "pg_dump cannot read the broken index any more")
    assert "waived" in engine.apply(run, "back-up").how
    assert not run.state.step("back-up").is_done


def test_every_step_can_be_undone(broken: Stack, begin: Begin) -> None:
    run = approved(begin("full"))
    rows = "SELECT to_jsonb(m) FROM messages m ORDER BY id"
    before = asked(broken, rows)
    heads = [run.context.checkout(name).head() for name in ("backend", "frontend")]
    for name in run.steps:
        engine.apply(run, name)

    for name in reversed(run.steps):
        engine.undo(run, name)

    assert asked(broken, rows) == before
    assert [run.context.checkout(name).head() for name in ("backend", "frontend")] == heads
    assert {step.status for step in run.state.steps.values()} == {"undone"}
    assert [r.status for r in run.observe("undone", ["services-running"])] == ["PASS"]


@pytest.mark.older
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
                engine.apply(run, name)

            assert {r.status for r in lifecycle.verify(run)} == {"PASS"}
            run.close_adapters()
        with server.connect() as superuser:
            left = superuser.execute("SELECT datname FROM pg_database WHERE datname LIKE 'social%'").fetchall()
    assert left == []


def test_a_conflict_is_shown_again_when_the_preview_is_repeated(broken_frontend: Stack, begin: Begin) -> None:
    checkout = broken_frontend.root / "frontend"
    (checkout / "src" / "app.js").write_text("something else altogether\n")
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--all", "--message=Rewrite"]
    subprocess.run(command, cwd=checkout, check=True)
    run = begin("frontend")

    for _ in range(2):
        digest, _ = run.previews()
        with pytest.raises(PreconditionError, match="conflicts with later work"):
            run.approve(digest, "tester")
