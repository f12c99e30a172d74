"""A restore that was killed at any point, and resumed."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from runbook_lib.errors import StepFailed
from runbook_lib.postgres import catalog
from runbook_lib.postgres.restore import cutover, staging_database
from runbook_lib.run import engine
from runbook_lib.steps import Effect, restore_staging, swap_database

from ...support.restoring import ADDED, ASIDE, MINE, ROWS, SWAP, Restoring

pytestmark = pytest.mark.newest


def killed(restoring: Restoring, action: Callable[[], object], module: Any, name: str, *, after: bool) -> None:
    """Have a process of its own die, by SIGKILL, before or after it calls a function."""

    def child() -> None:
        real = getattr(module, name)

        def dying(*arguments: Any, **named: Any) -> None:
            if after:
                real(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(module, name, dying)
        action()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("module", "name", "after", "left"),
    [
        pytest.param(staging_database, "create_alike", True, Effect.HALF_DONE, id="the side database is empty"),
        pytest.param(staging_database, "mark", False, Effect.HALF_DONE, id="restored, not marked"),
        pytest.param(staging_database, "restore_staging", True, Effect.HALF_DONE, id="marked, not compared"),
        pytest.param(restore_staging, "keep", True, Effect.DONE, id="compared, not journaled"),
    ],
)
def test_a_killed_restore_staging_is_resumed(
    restoring: Restoring, module: Any, name: str, after: bool, left: Effect
) -> None:
    before = restoring.ask(ROWS)
    restoring.approve()
    killed(restoring, lambda: engine.apply(restoring.run, ASIDE), module, name, after=after)
    restoring.run.refresh()
    assert restoring.effect(ASIDE) is left

    done = engine.apply(restoring.run, ASIDE)

    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask(ROWS, restoring.databases["restored"]) == before


STAGES = [
    pytest.param(swap_database, "compared", Effect.NOT_DONE, {"restored-database"}, id="fenced and compared"),
    pytest.param(cutover, "carry_records", Effect.NOT_DONE, {"restored-database", "old-database"}, id="records carried"),
    pytest.param(cutover, "let_in", Effect.HALF_DONE, None, id="connections refused"),
    pytest.param(catalog, "raise_sequences", Effect.HALF_DONE, None, id="sequences raised"),
    pytest.param(cutover, "cut_over", Effect.HALF_DONE, None, id="renamed, not exported"),
    pytest.param(swap_database, "exported", Effect.DONE, {"old-database"}, id="exported, not journaled"),
]
CARRYING = [
    *STAGES,
    pytest.param(swap_database, "applied", Effect.NOT_DONE, {"restored-database"}, id="rows carried"),
]
ALL_THREE = {"restored-database", "old-database", "refused-connections"}


@pytest.mark.parametrize(("module", "name", "left", "owed"), STAGES)
def test_a_killed_swap_is_resumed(restoring: Restoring, module: Any, name: str, left: Effect, owed: set[str] | None) -> None:
    before = restoring.ask(ROWS)
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    old = restoring.ask(ROWS)
    restoring.restore_staging()
    restoring.approve()
    killed(restoring, lambda: engine.apply(restoring.run, SWAP), module, name, after=True)
    restoring.run.refresh()
    assert restoring.effect(SWAP) is left
    assert set(restoring.run.state.pending) == (owed or ALL_THREE)

    done = engine.apply(restoring.run, SWAP)

    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask(ROWS) == before
    assert restoring.ask(ROWS, restoring.databases["kept"]) == old
    assert set(restoring.run.state.pending) == {"old-database"}
    assert (restoring.run.folder.path / "salvage" / "manifest.json").exists()


@pytest.mark.parametrize(("module", "name", "left", "owed"), CARRYING)
def test_a_swap_that_was_killed_while_it_carried_rows_over_is_resumed(
    restoring: Restoring, module: Any, name: str, left: Effect, owed: set[str] | None
) -> None:
    restoring.run.choose("SALVAGE", "carry", "tester")
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED, "UPDATE messages SET content = 'mine' WHERE id = 8")
    restoring.restore_staging()
    restoring.approve()
    killed(restoring, lambda: engine.apply(restoring.run, SWAP), module, name, after=True)
    restoring.run.refresh()
    assert restoring.effect(SWAP) is left

    done = engine.apply(restoring.run, SWAP)

    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask(MINE) == [(8, "mine"), (601, "written since")]


def test_rows_written_after_a_salvage_was_killed_are_carried_over_too(restoring: Restoring) -> None:
    restoring.run.choose("SALVAGE", "carry", "tester")
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED, "UPDATE messages SET content = 'mine' WHERE id = 8")
    restoring.restore_staging()
    restoring.approve()
    killed(restoring, lambda: engine.apply(restoring.run, SWAP), swap_database, "applied", after=True)
    restoring.change(ADDED, "DELETE FROM messages WHERE id = 601", "DELETE FROM messages WHERE id = 29")
    now = restoring.ask(ROWS)

    done = engine.apply(restoring.run, SWAP)

    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask(ROWS) == now
    assert done.outcome["carried over"]["carried"] == {"public.messages": {"new": 1, "deleted": 2}}
    assert done.outcome["carried over"]["carried by earlier tries"] == {
        "public.messages": {"new": 1, "deleted": 1, "changed": 1}
    }


def test_a_loss_that_grew_after_a_killed_salvage_is_approved_to_resume(restoring: Restoring) -> None:
    restoring.run.choose("SALVAGE", "carry", "tester")
    restoring.change(ADDED)
    restoring.restore_staging()
    restoring.approve()
    killed(restoring, lambda: engine.apply(restoring.run, SWAP), swap_database, "applied", after=True)
    restoring.change("""UPDATE messages SET attachments = '[{"source": "upload"}]' WHERE id = 12""")

    with pytest.raises(StepFailed, match=r"loss differs from the approved one.*in values by users: 1"):
        engine.apply(restoring.run, SWAP)

    restoring.approve()
    assert {r.status for r in engine.apply(restoring.run, SWAP).results} == {"PASS"}
    assert restoring.ask(MINE) == [(601, "written since")]


def test_values_that_a_crashed_server_skips_were_never_issued(restoring: Restoring) -> None:
    restoring.change(ADDED)
    restoring.swap()
    restoring.ask("SELECT setval('messages_id_seq', last_value + 32) FROM messages_id_seq", restoring.databases["kept"])

    assert {result.status for result in restoring.run.steps[SWAP].verify()} == {"PASS"}

    restoring.ask("SELECT setval('messages_id_seq', last_value - 1) FROM messages_id_seq")
    assert [r.name for r in restoring.run.steps[SWAP].verify() if r.status == "FAIL"] == ["swap-database: sequences"]


@pytest.mark.parametrize(
    ("module", "name", "undone"),
    [(cutover, "let_in", False), (catalog, "raise_sequences", False), (cutover, "cut_over", True)],
)
def test_a_killed_undo_of_the_swap_is_resumed(restoring: Restoring, module: Any, name: str, undone: bool) -> None:
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    old = restoring.ask(ROWS)
    restoring.swap()
    killed(restoring, lambda: engine.undo(restoring.run, SWAP), module, name, after=True)
    restoring.run.refresh()
    assert ("kept" in restoring.databases) is not undone

    engine.undo(restoring.run, SWAP)

    assert restoring.ask(ROWS) == old
    assert set(restoring.databases) == {"live", "restored"}
    assert set(restoring.run.state.pending) == {"restored-database"}
