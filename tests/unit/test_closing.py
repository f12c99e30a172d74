"""What the record of a run adds up to."""

from typing import Any

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.journal.event import Event
from runbook_lib.journal.state import replay
from runbook_lib.run.lifecycle import Outcome, judge

Happened = tuple[str, dict[str, Any]]
OPENED: Happened = ("opened", {"type": "full", "option": "A"})
APPROVED: Happened = ("approved", {"digest": "d", "by": "Dana"})
STEPS = [
    "freeze", "stop-services", "back-up", "clear-backfill", "revert-backend", "build-backend",
    "revert-frontend", "build-frontend", "start-services", "push-backend", "push-frontend", "purge-cache", "release",
]  # fmt: skip
CHECKS = [
    "services-running", "schema-expected", "api-media-url", "api-attachments-gone", "frontend-displays-media",
    "no-console-errors", "no-backend-errors", "thread-loads", "media-renders", "returning-users",
    "latency-normal", "no-slow-queries", "backfill-intact",
    "only-intended-rows",
]  # fmt: skip


def judged(plan: Plan, *history: Happened) -> Outcome:
    at = "2025-11-03T12:00:00+00:00"
    return judge(plan, replay(Event(n, at, kind, data, "", "") for n, (kind, data) in enumerate(history, 1)))


def begun(step: str) -> Happened:
    return "started", {"step": step, "title": step}


def ended(step: str, kind: str = "applied") -> Happened:
    return kind, {"step": step, "seconds": 1.0, "outcome": {}, "error": "it broke"}


def done(*steps: str) -> list[Happened]:
    return [event for step in steps for event in (begun(step), ended(step))]


def checked(status: str, *names: str) -> list[Happened]:
    return [("checked", {"round": "after", "name": name, "status": status, "summary": "seen"}) for name in names]


def before(status: str, round_name: str, name: str) -> Happened:
    return "checked", {"round": round_name, "name": name, "status": status, "summary": "seen"}


def waived(name: str) -> Happened:
    return "waived", {"name": name, "reason": "the probe is broken", "by": "Dana"}


def all_but(names: list[str], *left_out: str) -> list[str]:
    return [name for name in names if name not in left_out]


DONE, PASSED = done(*STEPS), checked("PASS", *CHECKS)
ALL = [OPENED, APPROVED, *DONE, *PASSED]
WITHOUT_BACK_UP = [OPENED, APPROVED, *done(*all_but(STEPS, "back-up"))]
SLOW = "no-slow-queries"
UNMEASURED: Happened = ("left-out", {"name": SLOW, "reason": "nobody measures"})
BACK = [OPENED, APPROVED, *done("stop-services"), begun("stop-services"), ended("stop-services", "undone")]
FOUND: Happened = ("found", {"step": "stop-services", "title": "Stop", "outcome": {}})
TO_FULL: Happened = ("escalated", {"from": "frontend", "to": "full", "because": "api-media-url: none"})
TO_RESTORE: Happened = ("escalated", {"from": "full", "to": "restore", "because": "backfill-intact: broken"})


@pytest.mark.parametrize(
    ("history", "status", "said"),
    [
        pytest.param(ALL, "verified", "all 13 steps done, all 14 checks passed", id="all done, all passed"),
        pytest.param(
            [OPENED, APPROVED, FOUND, *done(*all_but(STEPS, "stop-services")), *PASSED],
            "verified",
            "all 13 steps done",
            id="a step was found done",
        ),
        pytest.param([OPENED], "declined", "Nothing was approved", id="nothing approved"),
        pytest.param([OPENED, APPROVED], "failed", "not done: freeze", id="nothing begun"),
        pytest.param([*WITHOUT_BACK_UP, *PASSED], "failed", "not done: back-up", id="a step is missing"),
        pytest.param(
            [*WITHOUT_BACK_UP, begun("back-up"), ended("back-up", "failed"), *PASSED],
            "failed",
            "not done: back-up",
            id="a step failed",
        ),
        pytest.param(
            [*WITHOUT_BACK_UP, *done("back-up"), begun("back-up"), ended("back-up", "undone"), *PASSED],
            "failed",
            "not done: back-up",
            id="a step was undone",
        ),
        pytest.param(
            [*WITHOUT_BACK_UP, begun("back-up"), *PASSED], "unknown", "unknown: back-up", id="a step has no outcome"
        ),
        pytest.param(
            [*WITHOUT_BACK_UP, begun("back-up"), ended("back-up", "failed"), waived("back-up"), *PASSED],
            "waived",
            "12 of 13 steps done, all 14 checks passed; waived (not counted as passed): back-up",
            id="a step failed and is waived",
        ),
        pytest.param([OPENED, APPROVED, *DONE], "unknown", "not positively verified: services-running", id="no check"),
        pytest.param(
            [OPENED, APPROVED, *DONE, *checked("PASS", *all_but(CHECKS, "thread-loads"))],
            "unknown",
            "not positively verified: thread-loads",
            id="a check is missing",
        ),
        pytest.param([*ALL, *checked("UNKNOWN", "thread-loads")], "unknown", "thread-loads", id="a check could not be made"),
        pytest.param([*ALL, *checked("FAIL", "thread-loads")], "failed", "(thread-loads): FAIL", id="a check failed"),
        pytest.param(
            [*ALL, *checked("FAIL", "thread-loads"), *checked("PASS", "thread-loads")],
            "verified",
            "",
            id="a check passed at last",
        ),
        pytest.param(
            [*ALL, *checked("FAIL", "thread-loads"), *checked("UNKNOWN", "media-renders")],
            "failed",
            "thread-loads",
            id="one failed, one is unknown",
        ),
        pytest.param(
            [*ALL, *checked("FAIL", "thread-loads"), waived("thread-loads")],
            "waived",
            "13 of 14 checks passed; waived (not counted as passed): thread-loads",
            id="a failed check is waived",
        ),
        pytest.param(
            [*ALL, before("FAIL", "prerequisites", "disk"), waived("disk")],
            "waived",
            "all 13 steps done, all 14 checks passed; waived (not counted as passed): disk",
            id="a failed prerequisite is waived",
        ),
        pytest.param(
            [*ALL, before("UNKNOWN", "clone:d", "ddl-on-clone"), waived("ddl-on-clone")],
            "waived",
            "all 14 checks passed; waived (not counted as passed): ddl-on-clone",
            id="a trial of the DDL that could not be made is waived",
        ),
        pytest.param(
            [*ALL, before("FAIL", "prerequisites", "disk"), waived("disk"), before("PASS", "prerequisites", "disk")],
            "verified",
            "all 14 checks passed",
            id="a waived prerequisite holds at last",
        ),
        pytest.param(
            [*ALL, *checked("UNKNOWN", "thread-loads"), waived("thread-loads")],
            "waived",
            "13 of 14 checks passed; waived (not counted as passed): thread-loads",
            id="an unknown check is waived",
        ),
        pytest.param(
            [
                *[OPENED, APPROVED, *done(*all_but(STEPS, "back-up")), begun("back-up"), ended("back-up", "failed")],
                *[waived("back-up"), *PASSED, *checked("FAIL", "thread-loads"), waived("thread-loads")],
            ],
            "waived",
            "12 of 13 steps done, 13 of 14 checks passed; waived (not counted as passed): back-up, thread-loads",
            id="a failed step and a failed check are waived",
        ),
        pytest.param(
            [OPENED, APPROVED, *DONE, *checked("PASS", *all_but(CHECKS, SLOW)), UNMEASURED],
            "verified",
            "all 13 checks passed; no-slow-queries was left out: nobody measures",
            id="a check does not apply here",
        ),
        pytest.param(
            [*ALL, UNMEASURED, *checked("FAIL", SLOW)], "failed", f"({SLOW}): FAIL", id="a check was left out, then made"
        ),
        pytest.param(
            [OPENED, APPROVED, UNMEASURED, *DONE, *checked("PASS", *all_but(CHECKS, SLOW))],
            "unknown",
            SLOW,
            id="a check was left out before a change",
        ),
        pytest.param(
            [*BACK, ("served", {"services": ["backend"]})],
            "service-back",
            "not finished; not done: freeze",
            id="the services were brought back",
        ),
        pytest.param(
            [*BACK, ("served", {"services": ["backend"]}), *done("freeze")],
            "failed",
            "not done: stop-services",
            id="the services were brought back, and the run went on",
        ),
        pytest.param(
            [*ALL, ("served", {"services": ["backend"]})],
            "verified",
            "all 14",
            id="brought back, and nothing was left to do",
        ),
        pytest.param(
            [OPENED, APPROVED, *DONE, *checked("PASS", *all_but(CHECKS, "thread-loads")), waived("thread-loads")],
            "unknown",
            "(waived: thread-loads)",
            id="a missing check is waived",
        ),
        pytest.param(
            [*ALL, *checked("FAIL", "thread-loads", "media-renders"), waived("thread-loads")],
            "failed",
            "media-renders",
            id="one failed check of two is waived",
        ),
        pytest.param(
            [("opened", {"type": "frontend", "option": "A"}), APPROVED, *done("revert-frontend"), TO_FULL],
            "escalated",
            "Quick: frontend alone was not enough: api-media-url: none",
            id="escalated",
        ),
        pytest.param(
            [("opened", {"type": "frontend", "option": "A"}), APPROVED, TO_FULL, *DONE, *PASSED],
            "verified",
            "",
            id="escalated and done",
        ),
        pytest.param(
            [("opened", {"type": "frontend", "option": "A"}), APPROVED, TO_FULL, *done("stop-services")],
            "failed",
            "not done",
            id="escalated and begun",
        ),
        pytest.param(
            [*ALL, TO_RESTORE], "escalated", "was not enough", id="escalated with every step of the next type known"
        ),
    ],
)
def test_judge(plan: Plan, history: list[Happened], status: str, said: str) -> None:
    outcome = judged(plan, *history)

    assert (outcome.status, said in outcome.summary) == (status, True)


def test_checks_of_another_round_do_not_count(plan: Plan) -> None:
    before = [(kind, data | {"round": "before"}) for kind, data in PASSED]

    assert judged(plan, OPENED, APPROVED, *DONE, *before).status == "unknown"


def test_checks_made_before_the_last_change_do_not_count(plan: Plan) -> None:
    repeated = [begun("back-up"), ended("back-up", "undone"), *done("back-up")]

    assert judged(plan, *ALL, *repeated).status == "unknown"


def test_a_run_whose_type_was_never_chosen_is_declined(plan: Plan) -> None:
    assert judged(plan, ("opened", {"type": "", "option": "A"})).status == "declined"


@pytest.mark.parametrize("left_out", STEPS)
def test_no_run_is_verified_without_each_step(plan: Plan, left_out: str) -> None:
    assert judged(plan, OPENED, APPROVED, *done(*all_but(STEPS, left_out)), *PASSED).status == "failed"


@pytest.mark.parametrize("left_out", CHECKS)
def test_no_run_is_verified_without_each_check(plan: Plan, left_out: str) -> None:
    assert judged(plan, OPENED, APPROVED, *DONE, *checked("PASS", *all_but(CHECKS, left_out))).status == "unknown"


def test_an_outcome_holds_until_a_step_is_begun(plan: Plan) -> None:
    outcome: Happened = ("outcome", {"status": "service-back", "exit_code": 4, "summary": ""})
    at = "2025-11-03T12:00:00+00:00"

    def of(*history: Happened) -> bool:
        return replay(Event(n, at, kind, data, "", "") for n, (kind, data) in enumerate(history, 1)).outcome is not None

    assert (of(*BACK, outcome), of(*BACK, outcome, begun("freeze"))) == (True, False)


@pytest.mark.parametrize(
    ("status", "code"),
    [("verified", 0), ("declined", 1), ("failed", 3), ("unknown", 4), ("waived", 4), ("service-back", 4), ("escalated", 4)],
)
def test_only_verified_exits_with_0(status: str, code: int) -> None:
    assert Outcome(status, "").exit_code == code
