"""What both engines promise: each task comes back once, with an error or without, and a wait has a limit."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from runbook_lib.documents import digest
from runbook_lib.fleet.child import Task
from runbook_lib.fleet.dask_engine import Dask
from runbook_lib.fleet.engines import Ended, Engine, Pool
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder

from ..support.places import PLAN, TARGET

SECONDS = 60
Made = Callable[..., Task]


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for name in ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON"):
            patched.setenv(f"REHEARSAL_{name}", "http://localhost:1")
        patched.setenv("REHEARSAL_APPLICATION_ROLE", "app")
        yield


@pytest.fixture(scope="module", params=["threads", "dask"])
def engine(request: pytest.FixtureRequest, environment: None) -> Iterator[Engine]:
    made: Engine = Pool(2) if request.param == "threads" else Dask.local(2)
    yield made
    made.close()


@pytest.fixture
def task(tmp_path: Path) -> Made:
    """Makes a task of a run that has ended, so that there is nothing to do."""

    def made(name: str, target: Path = TARGET) -> Task:
        folder = tmp_path / name / "run"
        folder.mkdir(parents=True)
        about = {"operator": "a test", "type": "full", "option": "A", "target_file": str(target)}
        journal = Journal(folder / "journal.jsonl")
        journal.append("opened", plan_file=str(PLAN), plan_sha256=digest(PLAN), **about)
        journal.append("outcome", status="ended", exit_code=4, summary="by a test")
        return Task(name, str(folder), "apply")

    return made


def all_ended(engine: Engine, count: int) -> list[Ended]:
    found, deadline = list[Ended](), monotonic() + SECONDS
    while len(found) < count and monotonic() < deadline:
        found += engine.ended(1)
    return found


def test_many_tasks_come_back_once_each(engine: Engine, task: Made) -> None:
    names = [f"t{number:02}" for number in range(12)]
    for name in names:
        engine.submit(task(name))

    found = all_ended(engine, len(names))

    assert sorted(each.task.target for each in found) == names
    assert {(each.error, each.lost) for each in found} == {("", False)}
    assert engine.ended(0.1) == []


def test_a_target_handed_in_again_comes_back_again(engine: Engine, task: Made) -> None:
    again = task("t1")
    for _ in range(2):
        engine.submit(again)
        (ended,) = all_ended(engine, 1)
        assert (ended.task.target, ended.error) == ("t1", "")


def test_an_error_comes_back_as_an_error(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "t1").mkdir()
    engine.submit(Task("t1", str(tmp_path / "t1" / "run"), "apply"))

    (ended,) = all_ended(engine, 1)

    assert "ParametersError" in ended.error and "is no run folder" in ended.error
    assert not ended.lost


def test_a_wait_ends_in_time_while_a_task_is_under_way(engine: Engine, task: Made, tmp_path: Path) -> None:
    target = tmp_path / "target.yaml"
    os.mkfifo(target)
    engine.submit(task("t1", target))
    with open(target, "w") as file:  # opens once the task reads it
        begun = monotonic()
        assert engine.ended(0.2) == []
        assert monotonic() - begun < 5
        target.unlink()
        target.write_text("name: nothing else\n")
        file.write("name: nothing else\n")

    (ended,) = all_ended(engine, 1)

    assert "ParametersError" in ended.error


def test_a_target_on_which_another_process_acts_is_left_alone(engine: Engine, task: Made, tmp_path: Path) -> None:
    held = task("t1")
    with RunFolder(tmp_path / "t1").lock():
        engine.submit(held)
        (ended,) = all_ended(engine, 1)

    assert "Another process is acting in this run" in ended.error


def test_closing_a_pool_lets_what_is_under_way_end(environment: None, task: Made) -> None:
    pool = Pool(1)
    pool.submit(task("t1"))

    pool.close()

    assert [(each.task.target, each.error) for each in pool.ended(0)] == [("t1", "")]
