"""A restore that is paused or ended on request."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runbook_lib.errors import StepFailed
from runbook_lib.journal import control
from runbook_lib.postgres.restore import staging_database
from runbook_lib.run import engine
from runbook_lib.steps import Effect
from runbook_lib.steps import restore_staging as restoring_
from runbook_lib.system import processes
from runbook_lib.system.processes import until

from ...support.restoring import ADDED, ASIDE, ROWS, SWAP, Restoring

AtProgress = Callable[[Callable[[str], object]], None]


@pytest.fixture
def at_progress(restoring: Restoring, monkeypatch: pytest.MonkeyPatch) -> AtProgress:
    """Have something done at each progress that the step reports, by its text, and report progress without delay."""
    monkeypatch.setattr(processes, "LOOK", 0.01)
    monkeypatch.setattr(restoring_, "EVERY", 0.0)
    monkeypatch.setattr(control, "BETWEEN_LOOKS", 0.01)
    context = restoring.run.context
    report = context.reporter.append

    def register(act: Callable[[str], object]) -> None:
        def seen(kind: str, /, **data: Any) -> None:
            report(kind, **data)
            if kind == "progress":
                act(data["text"])

        monkeypatch.setattr(context, "reporter", replace(context.reporter, append=seen))

    return register


def test_an_ended_restore_leaves_no_process_and_is_resumed(restoring: Restoring, at_progress: AtProgress) -> None:
    before = restoring.ask(ROWS)
    restoring.approve()
    at_progress(lambda text: text.startswith("restoring") and restoring.run.request("abort"))

    with pytest.raises(StepFailed, match="The restore was aborted on request"):
        engine.apply(restoring.run, ASIDE)

    assert restoring.effect(ASIDE) is Effect.HALF_DONE
    assert until(lambda: at_work(restoring) == 0, 5, 0.01)
    at_progress(lambda text: None)
    assert engine.apply(restoring.run, ASIDE).how == "resumed and completed"
    assert restoring.ask(ROWS, restoring.databases["restored"]) == before


def test_a_paused_restore_does_nothing_until_it_is_resumed(restoring: Restoring, at_progress: AtProgress) -> None:
    before = restoring.ask(ROWS)
    restoring.approve()
    said: list[str] = []

    def act(text: str) -> None:
        if text == "paused":
            restoring.run.request("resume")
        elif not said:
            restoring.run.request("pause")
        said.append(text.split()[0])

    at_progress(act)

    engine.apply(restoring.run, ASIDE)

    assert said[:2] == ["restoring", "paused"]
    assert restoring.ask(ROWS, restoring.databases["restored"]) == before


def at_work(restoring: Restoring) -> int:
    """The sessions in the side database."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    with restoring.database.server.connect() as it:
        return int(it.execute(query, [restoring.databases["restored"]]).fetchall()[0][0])


@pytest.mark.parametrize("part", ["compared: public.messages", "carried: 1 deleted public.messages"])
def test_an_ended_salvage_admits_writers_and_carries_over_their_rows(
    restoring: Restoring, at_progress: AtProgress, part: str
) -> None:
    restoring.run.choose("SALVAGE", "carry", "tester")
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    restoring.restore_staging()
    restoring.approve()
    at_progress(lambda text: text == part and restoring.run.request("abort"))
    with pytest.raises(StepFailed, match="aborted on request"):
        engine.apply(restoring.run, SWAP)
    assert set(restoring.databases) == {"live", "restored"}
    restoring.change(ADDED)
    now = restoring.ask(ROWS)
    at_progress(lambda text: None)

    done = engine.apply(restoring.run, SWAP)

    assert {r.status for r in done.results} == {"PASS"}
    assert restoring.ask(ROWS) == now


def test_an_ended_export_is_resumed(restoring: Restoring, at_progress: AtProgress) -> None:
    restoring.change("DELETE FROM messages WHERE id = 7", ADDED)
    restoring.restore_staging()
    restoring.approve()
    at_progress(lambda text: text.startswith("for the export") and restoring.run.request("abort"))
    with pytest.raises(StepFailed, match="aborted on request"):
        engine.apply(restoring.run, SWAP)
    assert restoring.effect(SWAP) is Effect.HALF_DONE
    at_progress(lambda text: None)

    assert {r.status for r in engine.apply(restoring.run, SWAP).results} == {"PASS"}

    assert (restoring.run.folder.path / "salvage" / "manifest.json").exists()


def test_counting_ends_between_two_tables_and_nothing_is_restored_again(
    restoring: Restoring, at_progress: AtProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.approve()
    at_progress(lambda text: text.startswith("compared") and restoring.run.request("abort"))
    with pytest.raises(StepFailed, match="aborted on request"):
        engine.apply(restoring.run, ASIDE)
    assert restoring.run.steps[ASIDE].probe().detail.endswith("the loss is not counted yet")

    at_progress(lambda text: None)
    monkeypatch.setattr(staging_database, "restore_staging", lambda *_: 1 / 0)
    assert {r.status for r in engine.apply(restoring.run, ASIDE).results} == {"PASS"}
