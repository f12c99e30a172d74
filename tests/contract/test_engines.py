"""What both engines promise: each task comes back once, with an error or without, and every wait has a limit."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from time import monotonic

import pytest

from runbook_lib.documents import digest
from runbook_lib.errors import AdapterError
from runbook_lib.fleet.child import Task
from runbook_lib.fleet.dask_engine import Dask
from runbook_lib.fleet.engines import Ended, Engine, Pool
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder

from ..support.places import PLAN, TARGET
from ..support.waiting import until

SECONDS = 60
ENGINES: dict[str, Callable[[], Engine]] = {"threads": lambda: Pool(2), "dask": lambda: Dask.local(2)}
Made = Callable[..., Task]


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    """What the target file of the rehearsal names, so that a run of it can be opened."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON"):
            patched.setenv(f"REHEARSAL_{name}", "http://localhost:1")
        patched.setenv("REHEARSAL_APPLICATION_ROLE", "app")
        yield


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, environment: None) -> Iterator[Engine]:
    made = ENGINES[request.param]()
    yield made
    made.close()


@pytest.fixture
def task(tmp_path: Path) -> Made:
    """Makes a task of a run that has ended, so that there is nothing to do; with `error`, of one that cannot be opened."""

    def made(name: str, error: bool = False) -> Task:
        folder = tmp_path / name / "run"
        folder.mkdir(parents=True)
        about = {"operator": "a test", "type": "full", "option": "A", "target_file": str(TARGET), "plan_file": str(PLAN)}
        journal = Journal(folder / "journal.jsonl")
        journal.append("opened", plan_sha256="another" if error else digest(PLAN), **about)
        journal.append("outcome", status="ended", exit_code=4, summary="by a test")
        return Task(name, str(folder), "apply")

    return made


@contextmanager
def kept_waiting(task: Task) -> Iterator[None]:
    """Have a task of a run that cannot be opened wait, as it journals why, until the block ends."""
    with open(Path(task.folder) / "journal.jsonl", "rb") as journal:
        flock(journal, LOCK_EX)
        yield


def begun(task: Task) -> bool:
    """Whether somebody acts on the task now."""
    return bool(RunFolder(Path(task.folder).parent).held_by())


def all_ended(engine: Engine, count: int) -> list[Ended]:
    """So many tasks that have ended, and those that ended with the last of them."""
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


def test_a_task_handed_in_again_comes_back_again(engine: Engine, task: Made) -> None:
    again = task("t1")
    for _ in range(2):
        engine.submit(again)
        assert [(each.task, each.error, each.lost) for each in all_ended(engine, 1)] == [(again, "", False)]


def test_an_error_comes_back_by_its_type_and_text(engine: Engine, task: Made) -> None:
    engine.submit(task("t1", error=True))

    (ended,) = all_ended(engine, 1)

    assert ended.error.startswith("PreconditionError: The plan has changed since this run began.")
    assert not ended.lost


def test_a_run_whose_folder_is_missing_is_an_error(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "t1").mkdir()
    engine.submit(Task("t1", str(tmp_path / "t1" / "run"), "apply"))

    (ended,) = all_ended(engine, 1)

    assert str(tmp_path / "t1" / "run") in ended.error
    assert not ended.lost


def test_a_wait_has_a_limit_and_ends_with_the_first(engine: Engine, task: Made) -> None:
    held = task("t1", error=True)
    with kept_waiting(held):
        engine.submit(held)
        until(lambda: begun(held), "the task begins")
        before = monotonic()
        assert engine.ended(0.2) == []
        assert 0.1 < monotonic() - before < 5

        engine.submit(task("t2"))
        before = monotonic()
        assert [each.task.target for each in engine.ended(SECONDS)] == ["t2"]
        assert monotonic() - before < SECONDS / 2

    assert [each.task.target for each in all_ended(engine, 1)] == ["t1"]


def test_a_target_on_which_another_process_acts_is_left_alone(engine: Engine, task: Made) -> None:
    held = task("t1")
    with RunFolder(Path(held.folder).parent).lock():
        engine.submit(held)
        (ended,) = all_ended(engine, 1)

    assert ended.error.startswith("PreconditionError: Another process is acting in this run")


def test_a_closed_engine_refuses_a_task_by_a_clear_error(engine: Engine, task: Made) -> None:
    engine.submit(task("t1"))
    all_ended(engine, 1)

    engine.close()  # the last test of each engine

    with pytest.raises(AdapterError, match="This engine was closed"):
        engine.submit(task("t2"))


def test_closing_a_pool_waits_for_what_is_under_way_alone(environment: None, task: Made) -> None:
    pool, held, later = Pool(1), task("t1", error=True), task("t2")
    with ThreadPoolExecutor(1) as other:
        with kept_waiting(held):
            pool.submit(held)
            until(lambda: begun(held), "the task begins")
            pool.submit(later)
            closing = other.submit(pool.close)
            assert pool.ended(0.1) == []
            assert not closing.done()
        closing.result(SECONDS)

    assert [each.task.target for each in pool.ended(0)] == ["t1"]
    assert pool.ended(0) == []
    assert not (Path(later.folder).parent / ".lock").exists()
