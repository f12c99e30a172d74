"""What can be known before downtime stops `plan` and `run` there, through the command line; nothing is changed."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import lifecycle

from ..support.commands import words
from ..support.places import PLAN, TARGET
from ..support.stacks import RUNBOOK, asked, up

Plan = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack that no test here changes for good."""
    with up("all-media-missing") as running:
        yield running


def runbook(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUNBOOK, *map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@pytest.fixture
def plan() -> Iterator[Plan]:
    """Plan a full rollback; its run folder goes with the test."""
    planned: list[str] = []

    def call(*words: str | Path, target: Path = TARGET) -> subprocess.CompletedProcess[str]:
        done = runbook("plan", "--plan", PLAN, "--target", target, "--type", "full", *words)
        planned.extend(re.findall(r"Where: (\S+/outputs/[\w-]+)", done.stdout))
        return done

    yield call
    for folder in planned:
        shutil.rmtree(folder, ignore_errors=True)


def target_with(tmp_path: Path, before: str, after: str) -> Path:
    """The rehearsal's target with something else in it."""
    text = TARGET.read_text()
    assert before in text
    path = tmp_path / "target.yaml"
    path.write_text(text.replace(before, after))
    return path


def test_plan_and_run_refuse_an_impossible_strategy_before_downtime(stack: Stack, plan: Plan) -> None:
    planned = json.loads(plan("--choose", "STRATEGY=swap", "--json").stdout)
    text = plan("--choose", "STRATEGY=swap")

    executed = runbook("run", planned["run"], "--approve", planned["digest"])

    assert planned["exit_code"] == 3
    assert [(o["name"], o["status"]) for o in planned["obstacles"]] == [("clear-backfill: strategy", "FAIL")]
    assert (text.returncode, "To execute it:" in text.stdout) == (3, False)
    assert text.stdout.rstrip().splitlines()[-1].strip() == "Safe next: Fix the cause; then preview again."
    assert "every changed row's time of change must be set" in words(text.stdout)
    assert (executed.returncode, "The strategy is possible here" in words(executed.stderr)) == (3, True)
    run = lifecycle.open_existing(Path(planned["run"]))
    assert (run.state.steps, run.state.approved) == ({}, "")
    assert all(run.context.adapters.services.is_running(name) for name in run.context.plan.services)


def test_a_view_on_a_column_stops_the_plan_of_option_b(stack: Stack, plan: Plan) -> None:
    with psycopg.connect(stack.database.conninfo(stack.database.application), autocommit=True) as owner:
        owner.execute("CREATE VIEW looks AS SELECT attachments FROM messages")
        try:
            done = plan("--option", "B")
        finally:
            owner.execute("DROP VIEW looks")

    assert (done.returncode, "To execute it:" in done.stdout) == (3, False)
    assert "view looks" in words(done.stdout).rpartition(" cannot be approved: ")[2]


def test_a_table_that_a_dump_may_not_read_stops_the_plan(stack: Stack, plan: Plan) -> None:
    with psycopg.connect(stack.database.conninfo(), autocommit=True) as superuser:
        superuser.execute("CREATE TABLE payroll (id int)")
        superuser.execute("ALTER TABLE payroll ENABLE ROW LEVEL SECURITY")
        try:
            done = plan("--json")
        finally:
            superuser.execute("DROP TABLE payroll")

    found = {o["name"]: o["summary"] for o in json.loads(done.stdout)["obstacles"]}
    assert (done.returncode, found.keys()) == (3, {"back-up: readable"})
    assert "payroll" in found["back-up: readable"]


@pytest.mark.parametrize(
    ("before", "after", "obstacle"),
    [
        ("freeze: [touch,", "freeze: [hold-deploys,", "freeze: commands"),
        ("release: [rm,", "release: [let-deploys-go,", "release: commands"),
        ("command: [touch,", "command: [purge-cdn,", "purge-cache: command"),
    ],
)
def test_a_command_of_the_target_that_is_not_here_stops_the_plan(
    stack: Stack, plan: Plan, tmp_path: Path, before: str, after: str, obstacle: str
) -> None:
    done = plan("--json", target=target_with(tmp_path, before, after))

    assert (done.returncode, [o["name"] for o in json.loads(done.stdout)["obstacles"]]) == (3, [obstacle])


def test_a_service_without_a_known_version_is_unknown_and_waived_by_name(stack: Stack, plan: Plan, tmp_path: Path) -> None:
    target = target_with(tmp_path, "/health", "/healthz")

    done = plan("--json", target=target)
    planned = json.loads(done.stdout)
    obstacles = [o["name"] for o in planned["obstacles"]]
    waived = runbook("run", planned["run"], "--waive", "start-services: versions: nobody needs its version tonight")

    assert (done.returncode, obstacles) == (4, ["start-services: versions"])
    assert "--waive 'start-services: versions: REASON'" in planned["error"]
    assert (
        waived.returncode,
        f"To approve and execute it: runbook run {planned['run']} --approve {planned['digest']}" in words(waived.stderr),
    ) == (1, True)


def test_a_remote_that_does_not_answer_is_unknown(stack: Stack, plan: Plan) -> None:
    backend = stack.root / "backend"
    url = subprocess.check_output(["git", "remote", "get-url", "origin"], cwd=backend, text=True).strip()
    subprocess.run(["git", "remote", "set-url", "origin", "/nowhere"], cwd=backend, check=True)
    try:
        done = plan("--json")
    finally:
        subprocess.run(["git", "remote", "set-url", "origin", url], cwd=backend, check=True)

    assert (done.returncode, [o["name"] for o in json.loads(done.stdout)["obstacles"]]) == (4, ["push-backend"])


def test_a_waiver_reaches_a_prerequisite_of_run(stack: Stack, plan: Plan, tmp_path: Path) -> None:
    target = target_with(tmp_path, "pattern: backup_before_attachments_backfill_*.dump", "pattern: none_*.dump")
    refused = plan("--json", target=target)
    run = json.loads(refused.stdout)["error"].partition("Where: ")[2].split()[0]

    without = runbook("run", run)
    waived = runbook("run", run, "--waive", "backup: what goes is nothing that a backup has")

    assert refused.returncode == 3
    assert (without.returncode, "no none_*.dump" in words(without.stderr)) == (3, True)
    assert (waived.returncode, "To approve and execute it: runbook run" in words(waived.stderr)) == (1, True)
    assert asked(stack, "SELECT count(*) FROM messages") == [(600,)]
