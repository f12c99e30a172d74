"""Freezing and releasing by the target's own commands, which here put marker files there and take them away."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from runbook_lib import steps
from runbook_lib.config.target import Freeze
from runbook_lib.errors import StepFailed, UnknownOutcome
from runbook_lib.results import Status, not_passed
from runbook_lib.run import Run, cleanup, engine
from runbook_lib.steps.freeze import FreezeKeys, ReleaseKeys
from runbook_lib.system.processes import LocalProcesses

FREEZE, RELEASE = "freeze-deploys", "release-deploys"


def marker(path: Path, **changed: Any) -> Freeze:
    """Something that is frozen while a file is there."""
    commands = {"freeze": ["touch", str(path)], "release": ["rm", str(path)], "check": ["test", "-e", str(path)]}
    return Freeze(**{**commands, "timeout": 1, **changed})


def frozen(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


@pytest.fixture
def held(tmp_path: Path) -> Path:
    path = tmp_path / "held"
    path.mkdir()
    return path


@pytest.fixture
def frozen_run(run: Run, held: Path) -> Run:
    """A run that freezes a deploy pipeline and the consumers on two hosts, releases them, and does nothing else."""
    context = run.context
    specs = {
        FREEZE: FreezeKeys(kind="freeze", title="Freeze", estimate=1),
        RELEASE: ReleaseKeys(kind="release", title="Release", estimate=1),
    }
    kind = context.plan.types["full"].model_copy(update={"steps": list(specs)})
    context.plan = context.plan.model_copy(
        update={"steps": {**context.plan.steps, **specs}, "types": {**context.plan.types, "full": kind}}
    )
    freezes = {"deploys": marker(held / "deploys"), "consumers": marker(held / "{host}", hosts=["host-a", "host-b"])}
    context.target = context.target.model_copy(update={"freezes": freezes})
    context.adapters = context.adapters.but(processes=LocalProcesses())
    return run


def approved(run: Run) -> Run:
    digest, _ = run.previews()
    run.approve(digest, "Dana")
    return run


def change(run: Run, name: str, **changed: Any) -> None:
    freezes = run.context.target.freezes
    other = freezes[name].model_copy(update=changed)
    run.context.target = run.context.target.model_copy(update={"freezes": {**freezes, name: other}})


def test_a_preview_freezes_nothing(frozen_run: Run, held: Path) -> None:
    _, (freeze, release) = frozen_run.previews()

    assert freeze.would == ["freeze deploys", "freeze consumers on host-a", "freeze consumers on host-b"]
    assert release.would[0] == "release deploys, if this run froze it"
    assert frozen(held) == []


def test_all_is_frozen_on_every_host_and_released_again(frozen_run: Run, held: Path) -> None:
    approved(frozen_run)

    engine.apply(frozen_run, FREEZE)
    meanwhile, debts = frozen(held), len(frozen_run.state.pending)
    engine.apply(frozen_run, RELEASE)

    assert (meanwhile, debts) == (["deploys", "host-a", "host-b"], 3)
    assert (frozen(held), frozen_run.state.pending) == ([], {})


def test_what_somebody_else_froze_stays_frozen(frozen_run: Run, held: Path) -> None:
    (held / "deploys").touch()
    approved(frozen_run)

    engine.apply(frozen_run, FREEZE)
    engine.apply(frozen_run, RELEASE)

    assert frozen(held) == ["deploys"]


def test_an_interrupted_freeze_is_resumed_and_still_released(frozen_run: Run, held: Path) -> None:
    approved(frozen_run)
    change(frozen_run, "consumers", freeze=["sh", "-c", 'test {host} = host-a && touch "$0"', str(held / "{host}")])
    with pytest.raises(StepFailed):
        engine.apply(frozen_run, FREEZE)
    partly = frozen(held)
    change(frozen_run, "consumers", freeze=["touch", str(held / "{host}")])

    engine.apply(frozen_run, FREEZE)
    engine.apply(frozen_run, RELEASE)

    assert (partly, frozen(held)) == (["deploys", "host-a"], [])


def test_a_freeze_command_without_effect_fails_by_its_check(frozen_run: Run) -> None:
    change(frozen_run, "deploys", freeze=["true"])
    approved(frozen_run)

    with pytest.raises(StepFailed, match=r"the check of deploys still says not frozen after 1 s"):
        engine.apply(frozen_run, FREEZE)


@pytest.mark.parametrize("check", [["sh", "-c", "exit 255"], ["/no/such/program"]], ids=["a host not reached", "no program"])
def test_a_check_without_a_result_is_never_taken_for_an_answer(frozen_run: Run, check: list[str]) -> None:
    change(frozen_run, "deploys", check=check)

    digest, _ = frozen_run.previews()
    with pytest.raises(UnknownOutcome, match=r"is unknown|could not be started"):
        frozen_run.approve(digest, "Dana")


def test_a_freeze_that_does_not_hold_is_not_verified(frozen_run: Run, held: Path) -> None:
    approved(frozen_run)
    engine.apply(frozen_run, FREEZE)
    (held / "host-b").unlink()

    (result,) = not_passed(frozen_run.steps[FREEZE].verify())

    assert (result.status, result.summary) == (Status.FAIL, "not frozen: consumers on host-b")


def test_undo_of_a_freeze_releases_what_it_froze(frozen_run: Run, held: Path) -> None:
    (held / "deploys").touch()
    approved(frozen_run)
    engine.apply(frozen_run, FREEZE)

    engine.undo(frozen_run, FREEZE)

    assert (frozen(held), frozen_run.state.pending) == (["deploys"], {})


def test_undo_of_a_release_freezes_again(frozen_run: Run, held: Path) -> None:
    approved(frozen_run)
    engine.apply(frozen_run, FREEZE)
    engine.apply(frozen_run, RELEASE)

    engine.undo(frozen_run, RELEASE)

    assert (frozen(held), len(frozen_run.state.pending)) == (["deploys", "host-a", "host-b"], 3)


def test_a_release_by_hand_pays_the_debt_all_the_same(frozen_run: Run, held: Path) -> None:
    approved(frozen_run)
    engine.apply(frozen_run, FREEZE)
    (held / "host-a").unlink()

    engine.apply(frozen_run, RELEASE)

    assert (frozen(held), frozen_run.state.pending) == ([], {})


def test_what_a_run_left_frozen_can_be_released_as_a_debt(frozen_run: Run, held: Path) -> None:
    approved(frozen_run)
    engine.apply(frozen_run, FREEZE)
    digest, previews = cleanup.preview(frozen_run, "frozen: deploys")

    cleanup.clean_up(frozen_run, digest, digest, "frozen: deploys")

    assert [preview.would for preview in previews] == [["release deploys"]]
    assert (frozen(held), len(frozen_run.state.pending)) == (["host-a", "host-b"], 2)


def test_what_a_step_declares_due_at_once_is_cleaned_up_first(
    frozen_run: Run, held: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps.kind("freeze"), "DUE_AT_ONCE", {"frozen: deploys": "", "frozen: consumers on host-a": "disk"})
    approved(frozen_run)
    engine.apply(frozen_run, FREEZE)

    cleanup.clean_up_due(frozen_run)

    assert (frozen(held), list(frozen_run.state.pending)) == (["host-b"], ["frozen: consumers on host-b"])


def test_what_is_due_at_once_and_waived_stays_pending_cleanup(
    frozen_run: Run, held: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps.kind("freeze"), "DUE_AT_ONCE", {"frozen: deploys": "disk"})
    monkeypatch.setattr(steps.kind("freeze"), "clean_up_waived", lambda step, item: f"release {item} by hand")
    approved(frozen_run)
    engine.apply(frozen_run, FREEZE)
    frozen_run.waive("disk", "the pipeline is lost")

    cleanup.clean_up_due(frozen_run)
    cleanup.clean_up_due(frozen_run)

    assert frozen_run.state.pending["frozen: deploys"]["text"] == "release frozen: deploys by hand"
    assert [event.kind for event in frozen_run.journal.events()].count("owed") == 4
    assert frozen(held) == ["deploys", "host-a", "host-b"]


def test_a_target_without_anything_to_freeze_goes_through(frozen_run: Run) -> None:
    frozen_run.context.target = frozen_run.context.target.model_copy(update={"freezes": {}})
    approved(frozen_run)

    how = [engine.apply(frozen_run, name).how for name in (FREEZE, RELEASE)]

    assert how == ["already done: the target names nothing to freeze", "already done: this run has frozen nothing"]


@pytest.mark.parametrize(("place", "hosts"), [("marker", ["a"]), ("{host}", [])], ids=["never filled in", "no hosts"])
def test_hosts_and_commands_that_do_not_fit_are_an_error(held: Path, place: str, hosts: list[str]) -> None:
    with pytest.raises(ValidationError, match="hosts do not fit"):
        marker(held / place, hosts=hosts)
