"""From every point of a rollback there is a nearest way to services that are back."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from runbook_lib.config.compatibility import BEFORE, Rules, StepEffect
from runbook_lib.config.plan import Plan
from runbook_lib.config.target import Target
from runbook_lib.documents import load_plan
from runbook_lib.run import Run
from runbook_lib.run.recovery import recover
from runbook_lib.run.recovery_path import RecoveryPath, backward, effects_of, forward, refused, shortest

from ..support.places import ROOT

PLAN = load_plan(ROOT / "parameters" / "feat-2025-20251103111429.yaml")
PREFIXES = [
    (option, count) for option in "ABC" for count in range(len(PLAN.steps_of("full", option)) + 1)
]  # of the full rollback's steps, done


@pytest.fixture
def rules(plan: Plan, target: Target) -> Rules:
    return Rules(plan, target.services.built_from)


def walked(rules: Rules, standing: Sequence[StepEffect], way: RecoveryPath) -> list[StepEffect]:
    """What stands after a way, each of whose moves must be allowed when it is made."""
    now = list(standing)
    for move in way.moves:
        assert refused(rules, now, move.step, undo=move.action == "undo") == ""
        if move.action == "undo":
            now = [one for one in now if one.step != move.step]
        elif any(one.step == move.step for one in now):
            now = [replace(one, whole=True) if one.step == move.step else one for one in now]
        else:
            now.append(StepEffect(move.step))
    return now


@pytest.mark.parametrize("half", [False, True], ids=["whole", "the last one half done"])
@pytest.mark.parametrize(("option", "count"), PREFIXES)
def test_every_point_of_the_full_rollback_leads_services_back(rules: Rules, option: str, count: int, half: bool) -> None:
    steps = PLAN.steps_of("full", option)
    done = [StepEffect(step) for step in steps[:count]]
    if half and done:
        done[-1] = replace(done[-1], whole=False)

    way = shortest(rules, done, steps)

    assert way.blocked == ""
    assert rules.serves(rules.state(walked(rules, done, way)))
    others = [w.estimate for w in (forward(rules, done, steps), backward(rules, done, steps)) if not w.blocked]
    assert way.estimate == (min(others) if way.moves else 0)


def told(way: RecoveryPath) -> list[str]:
    return [f"{move.action} {move.step}" for move in way.moves]


@pytest.mark.parametrize(
    ("option", "last", "moves"),
    [
        pytest.param("A", "", [], id="nothing done: they run"),
        pytest.param("C", "restore-staging", [], id="a restore to a staging database stops nothing"),
        pytest.param("A", "stop-services", ["undo stop-services"], id="stopped"),
        pytest.param("A", "back-up", ["undo stop-services"], id="a backup is left alone"),
        pytest.param("B", "back-up", ["undo fence-application", "undo stop-services"], id="let in before the start"),
        pytest.param(
            "A",
            "revert-backend",
            [f"apply {s}" for s in ("build-backend", "revert-frontend", "build-frontend", "start-services")],
            id="past the middle: forward",
        ),
        pytest.param("A", "build-frontend", ["apply start-services"], id="one step from the end"),
        pytest.param("A", "start-services", [], id="what is pushed is no part of the service"),
    ],
)
def test_the_nearest_way(rules: Rules, option: str, last: str, moves: list[str]) -> None:
    steps = PLAN.steps_of("full", option)
    done = steps[: steps.index(last) + 1] if last else []

    assert told(shortest(rules, [StepEffect(step) for step in done], steps)) == moves


def test_forward_is_no_way_where_the_steps_ahead_leave_the_table(rules: Rules) -> None:
    done, steps = (
        [StepEffect("stop-services"), StepEffect("clear-backfill")],
        ["stop-services", "clear-backfill", "start-services"],
    )

    assert "“Start the services” is refused" in forward(rules, done, steps).blocked
    assert told(shortest(rules, done, steps)) == ["undo clear-backfill", "undo stop-services"]


def test_services_are_not_started_next_to_one_that_they_cannot_use(rules: Rules) -> None:
    done = [StepEffect(step) for step in ("stop-services", "revert-backend", "build-backend")]

    found = refused(rules, done, "stop-services", undo=True)

    assert found == "frontend would run the feature's code with backend on the code from before"


def test_what_somebody_else_did_is_not_undone(rules: Rules) -> None:
    done = [StepEffect("stop-services", own=False)]
    steps = PLAN.steps_of("full", "A")

    assert "was not done by this rollback" in backward(rules, done, steps).blocked
    assert told(shortest(rules, done, steps))[:3] == ["apply freeze", "apply back-up", "apply clear-backfill"]


def test_where_no_path_exists_both_reasons_are_shown(rules: Rules) -> None:
    done = [StepEffect("stop-services", own=False), StepEffect("clear-backfill", own=False)]

    way = shortest(rules, done, ["stop-services", "clear-backfill", "start-services"])

    assert (way.moves, way.blocked.startswith("forward: "), "; back: " in way.blocked) == ((), True, True)


def test_what_has_failed_is_never_offered_again(rules: Rules) -> None:
    steps = PLAN.steps_of("full", "A")
    done = [StepEffect(step) for step in steps[: steps.index("build-frontend") + 1]]
    assert told(shortest(rules, done, steps)) == ["apply start-services"]

    start, revert = ("apply", "start-services"), ("undo", "revert-backend")
    back = shortest(rules, done, steps, {start: "It ends at once.\n  Safe next: read its log."})
    none = shortest(rules, done, steps, {start: "It ends.", revert: "It conflicts."})

    assert (told(back)[0], "apply start-services" in told(back)) == ("undo build-frontend", False)
    assert none.blocked.startswith("forward: “Start the services” failed: It ends; back: undoing “Take the code of backend")


@pytest.mark.parametrize(("option", "count"), PREFIXES)
def test_from_every_point_a_path_repeats_nothing_that_has_failed(rules: Rules, option: str, count: int) -> None:
    steps = PLAN.steps_of("full", option)
    done = [StepEffect(step) for step in steps[:count]]
    failing: dict[tuple[str, str], str] = {}
    while not (way := shortest(rules, done, steps, failing)).blocked and way.moves:
        assert not failing.keys() & {(move.action, move.step) for move in way.moves}
        failing[way.moves[0].action, way.moves[0].step] = "It failed."

    assert bool(way.blocked) is bool(failing)  # every path is used up in the end, and none is offered twice


def test_after_an_escalation_the_frontend_that_went_back_already_stays_so(rules: Rules) -> None:
    quick = ["revert-frontend", "build-frontend", "restart-frontend", "push-frontend"]
    done = [StepEffect(step) for step in [*quick, "stop-services"]]

    way = shortest(rules, done, PLAN.steps_of("full", "A"))

    assert told(way) == ["undo stop-services"]
    assert rules.state(walked(rules, done, way)).built["frontend"] == {BEFORE}


def test_the_way_is_known_from_the_record_alone(run: Run) -> None:
    run.journal.append("started", step="stop-services", title="Stop the services")

    assert effects_of(run.state) == [StepEffect("stop-services", whole=False)]
    assert [(m.action, m.step, m.estimate) for m in recover(run).moves] == [("undo", "stop-services", 20)]


def test_what_is_probed_as_not_done_is_not_undone(run: Run) -> None:
    for name in run.context.plan.services:
        run.context.adapters.services.start(name)
    run.journal.append("started", step="stop-services", title="Stop the services")

    assert recover(run, look=True).moves == ()
