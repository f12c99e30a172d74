"""What is killed leaves nothing running and nothing half written, and the same command completes the run."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from runbook_lib.postgres.dump import sha256
from runbook_lib.rehearsal.stack import Stack

from ..support.command_line import Planned, ended, kernel_of, planned, processes
from ..support.stacks import up
from ..support.waiting import until

HELD = "held_by_a_test"  # a table that pg_dump has to wait for


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with up("none") as running:
        yield running


@pytest.fixture
def plan(stack: Stack, tmp_path: Path) -> Iterator[Planned]:
    with planned(stack, tmp_path) as it:
        yield it
        if (it.run.state.outcome or {}).get("status") != "verified":  # so that the next run may have the target
            assert ended(it.started("end", str(it.folder), "--reason", "the test is over")).returncode == 0


@pytest.fixture
def held(stack: Stack) -> Iterator[psycopg.Connection]:
    """A transaction that keeps pg_dump waiting until it ends."""
    with psycopg.connect(stack.database.conninfo(stack.database.application)) as connection:
        connection.execute(f"CREATE TABLE {HELD} ()")
        connection.commit()
        connection.execute(f"LOCK TABLE {HELD}")
        yield connection
        connection.rollback()
        connection.execute(f"DROP TABLE {HELD}")


def runs(process: psutil.Process) -> bool:
    """Whether a process still runs; an ended one that nobody has reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main(runner: "subprocess.Popen[str]") -> list[psutil.Process]:
    return [psutil.Process(runner.pid)]


def kernel(runner: "subprocess.Popen[str]") -> list[psutil.Process]:
    return [kernel_of(runner)]


def everything_but_the_command(runner: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The watchers first, so that nobody is left who would end the command."""
    tree = [psutil.Process(runner.pid), *psutil.Process(runner.pid).children(recursive=True)]
    ours = [process for process in tree if "pg_dump" not in process.name()]
    return sorted(ours, key=lambda process: "temporary.py" not in " ".join(process.cmdline()))


@pytest.mark.parametrize("victims", [main, kernel, everything_but_the_command])
def test_no_earlier_pg_dump_writes_into_the_verified_backup(plan: Planned, held: psycopg.Connection, victims) -> None:
    runner = plan.start()
    first = until(lambda: processes("--format=custom", plan.folder.name), "pg_dump runs")
    for process in victims(runner):
        os.kill(process.pid, signal.SIGKILL)
    runner.communicate(timeout=60)
    if victims is not everything_but_the_command:
        until(lambda: not any(runs(process) for process in first), "pg_dump is gone with its owner", 10)

    second = plan.start()
    until(lambda: len(plan.events("started")) == 2, "the backup is tried again")
    assert not [process for process in first if runs(process)]  # by the start of the second, at the latest
    held.rollback()
    output, errors = second.communicate(timeout=60)

    assert (second.returncode, "VERIFIED" in output) == (0, True), output + errors
    (outcome,) = [data["outcome"] for data in plan.events("applied") if data["step"] == "back-up"]
    assert sha256(Path(outcome["file"])) == outcome["sha256"]
    assert list(Path(outcome["file"]).parent.glob("*.partial")) == []


def test_two_like_deaths_of_the_kernel_end_the_run_as_unknown(plan: Planned, held: psycopg.Connection) -> None:
    for _ in range(2):
        runner = plan.start()
        until(lambda: processes("--format=custom", plan.folder.name), "pg_dump runs")
        kernel_of(runner).kill()
        output, errors = runner.communicate(timeout=60)
        assert runner.returncode == 4, output + errors

    log = (plan.folder / "rollback-log.md").read_text()
    said = 'The kernel was ended by SIGKILL in the cell await apply(run, "back-up").'
    assert f"**Outcome**: ? UNKNOWN (The notebook did not end by itself. {said}" in log
    assert "“Back up the database as it is now”" in log
    assert "STILL OPEN" not in (plan.folder / "report.html").read_text()
    assert len(plan.events("outcome")) == 2


def test_the_summary_of_a_failed_step_holds_its_cause(plan: Planned, held: psycopg.Connection) -> None:
    runner = plan.start()
    until(lambda: processes("--format=custom", plan.folder.name), "pg_dump runs")
    with psycopg.connect("service=rehearsal_admin", autocommit=True) as other:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_dump'"
        until(lambda: other.execute(ended).fetchone() is not None, "pg_dump is connected, and is ended")
    output, errors = runner.communicate(timeout=60)

    assert runner.returncode == 3, output + errors
    assert "terminating connection due to administrator command" in plan.events("outcome")[-1]["summary"]
