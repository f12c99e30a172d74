"""Two runs next to each other: a rehearsal and the incident."""

from runbook_lib.records.comparison import Comparison, compared
from runbook_lib.records.walk import WalkedStep

from ..support.rehearsals import walk


def incident(**keys: object) -> Comparison:
    return compared(walk(), walk("20261202T030000Z-second", **keys))


def test_a_run_does_not_differ_from_one_like_it() -> None:
    found = incident()

    assert (found.differs, [step.differs for step in found.steps]) == ([], [[], []])


def test_each_step_has_its_seconds_in_both() -> None:
    steps = {**walk().steps, "clear": walk().steps["clear"].model_copy(update={"seconds": 80.0, "volumes": {"rows": 9000}})}

    found = incident(steps=steps)

    assert [(step.step, step.first, step.second) for step in found.steps] == [("stop", 2.0, 2.0), ("clear", 8.0, 80.0)]
    assert found.steps[1].differs == ["rows: 1000 → 9000"]


def test_a_step_of_one_run_alone_is_named() -> None:
    more = WalkedStep(title="Purge", kind="purge_cache", status="done", seconds=1.0, volumes={})
    steps = {"clear": walk().steps["clear"], "purge": more}

    assert [(step.step, step.differs) for step in incident(steps=steps).steps] == [
        ("stop", ["not in the second run"]),
        ("clear", []),
        ("purge", ["not in the first run"]),
    ]


def test_a_step_that_failed_says_so() -> None:
    failed = walk().steps["clear"].model_copy(update={"status": "failed"})

    assert incident(steps={**walk().steps, "clear": failed}).steps[1].differs == ["done → failed"]


def test_checks_waivers_and_choices_that_differ_are_named() -> None:
    found = incident(checks={"api": "FAIL"}, waivers={"api": "the API is slow today"}, choices={"STRATEGY": "swap"})

    assert found.differs == [
        "check api: PASS → FAIL",
        "waiver api: none → the API is slow today",
        "choice STRATEGY: none → swap",
    ]
