"""A run as JUnit XML, for a CI that reads test results: a case for each step and each check.

FAIL is a failure, UNKNOWN an error, and what was waived, left out or never begun is skipped with the reason. Names depend on
nothing but the plan and the command, so that a CI can compare one run with the next.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runbook_lib.config.plan import Plan
from runbook_lib.errors import ParametersError, RunbookError, cause
from runbook_lib.journal.event import Event
from runbook_lib.journal.state import RunState, StepState, replay
from runbook_lib.redaction import redact
from runbook_lib.report import facts
from runbook_lib.results import Status

if TYPE_CHECKING:
    from junitparser import TestCase, TestSuite

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what no XML may hold
WELL, IN_PART = ("verified", "undone"), "waived"  # outcomes
NOT_KNOWN = ("unknown", "ended", "escalated")
UNDO, GOES_ON = "undo-approved", ("applied", "found")  # kinds of event
SKIPPED = "SKIPPED"
ROLLBACK = "rollback"  # the suite of a run
Ending = tuple[str, str]  # PASS, FAIL, UNKNOWN or SKIPPED, and why
Write = Callable[[Iterable["TestSuite"]], None]
DONE = (Status.PASS.value, "")


@contextmanager
def written(file: Path | None, name: str) -> Iterator[Write]:
    """Write the suites that the block gives, and a case with the error that ends it. Changes that file, unless it is None.

    Args:
        file: Where the XML goes.
        name: The suite of an error that ends the block before it has given any.

    Raises:
        ParametersError: No file can be written there; the block is not begun.
    """
    suites: list[TestSuite] = []
    if file is None:
        yield suites.extend
        return
    _require_place(file)
    try:
        yield suites.extend
    except (Exception, KeyboardInterrupt) as error:
        said = str(error) or type(error).__name__
        suites.append(suite(name, [case(name, "error", (Status.UNKNOWN, said))]))
        raise
    finally:
        _write(file, suites)


def of_run(plan: Plan, events: Sequence[Event], name: str, error: RunbookError | None = None) -> TestSuite:
    """Make a suite of a run: its steps, checks and outcome, and its undo if there was one. Read-only.

    An `error` that ended the command is the outcome.
    """
    undone_from = _undone_from(events)
    state = replay(events[:undone_from])
    outcome = (Status.UNKNOWN, str(error)) if error else _outcome(state)
    cases = [*_steps(plan, state, name), *_checks(plan, state, name), case(name, "outcome", outcome)]
    if undone_from < len(events):
        last = replay(events)
        cases += [case(f"{name}.undo", each, _undone(last, each), last.step(each).seconds) for each in _begun(state)]
        cases += of_round(last, name, "after")
    return suite(name, cases)


def _undone_from(events: Sequence[Event]) -> int:
    """Find where the undo of the whole run begins; without one, the end. Pure."""
    undo = max((number for number, event in enumerate(events) if event.kind == UNDO and event.data["whole"]), default=None)
    goes_on = undo is None or any(event.kind in GOES_ON for event in events[undo:])
    return len(events) if undo is None or goes_on else undo


def suite(name: str, cases: Iterable[TestCase]) -> TestSuite:
    """Make a suite of cases. Pure."""
    from junitparser import TestSuite

    made = TestSuite(name)
    made.add_testcases([*cases])
    return made


def case(group: str, name: str, ending: Ending, seconds: float | None = None) -> TestCase:
    """Make a case with its group, name and result. Pure."""
    from junitparser import Error, Failure, Skipped, TestCase

    made = TestCase(_clean(name), _clean(group), round(seconds or 0, 3))
    status, why = ending
    kinds = {Status.FAIL: Failure, Status.UNKNOWN: Error, SKIPPED: Skipped}
    if status != Status.PASS:
        result = kinds[status](_clean(cause(why)), status)
        result.text = _clean(why)
        made.result = [result]
    return made


def by_exit_code(code: int, why: str) -> Ending:
    """Return the result for an exit code: 0 passed, 4 unknown, else failed. Pure."""
    return (Status.PASS if code == 0 else Status.UNKNOWN if code == 4 else Status.FAIL), why


def _steps(plan: Plan, state: RunState, name: str) -> list[TestCase]:
    return [case(f"{name}.step", step.name, _of_step(state, step), step.seconds) for step in facts.steps(plan, state)]


def _of_step(state: RunState, step: StepState) -> Ending:
    if step.is_done:
        return DONE
    if waiver := state.waivers.get(step.name):
        return SKIPPED, f"waived: {waiver['reason']}"
    match step.status:
        case "failed":
            return Status.FAIL, step.error
        case "started":
            return Status.UNKNOWN, "It was begun; whether it is done is not known."
    return SKIPPED, "not begun"


def _checks(plan: Plan, state: RunState, name: str) -> list[TestCase]:
    after, kind = state.checks.get("after", {}), facts.rollback_type(plan, state)
    names = dict.fromkeys([*(kind.checks if kind else []), *after])
    return [case(f"{name}.check", each, _of_check(state, each)) for each in names]


def of_round(state: RunState, name: str, round_name: str) -> list[TestCase]:
    """Make the cases of one round of checks of a run. Read-only."""
    return [
        case(f"{name}.check-{round_name}", each, _of_check(state, each, round_name))
        for each in state.checks.get(round_name, {})
    ]


def _of_check(state: RunState, name: str, round_name: str = "after") -> Ending:
    found = state.checks.get(round_name, {}).get(name)
    if found and found["status"] == Status.PASS:
        return DONE
    if reason := state.left_out.get(name):
        return SKIPPED, f"left out: {reason}"
    if waiver := state.waivers.get(name):
        return SKIPPED, f"waived: {waiver['reason']}"
    if not found:
        return SKIPPED, "not made"
    lines = [found.get("summary", ""), *map(str, found.get("evidence", {}).get("findings", ()))]
    return found["status"], "\n".join(filter(None, lines))


def _outcome(state: RunState) -> Ending:
    if state.outcome is None:
        return Status.UNKNOWN, "The journal holds no outcome."
    status, said = state.outcome["status"], f"{state.outcome['status']}: {state.outcome.get('summary', '')}"
    if status == IN_PART:
        waived = "; ".join(f"{name}: {waiver['reason']}" for name, waiver in state.waivers.items())
        return SKIPPED, f"waived: {waived}"
    return (Status.PASS if status in WELL else Status.UNKNOWN if status in NOT_KNOWN else Status.FAIL), said


def _begun(state: RunState) -> list[str]:
    return [name for name, step in state.steps.items() if step.begun_here]


def _undone(state: RunState, name: str) -> Ending:
    if state.step(name).status == "undone":
        return DONE
    if why := state.failing.get(("undo", name)):
        return Status.FAIL, why
    return SKIPPED, "not undone"


def _clean(text: str) -> str:
    return NO_XML.sub("\ufffd", redact(text))


def _require_place(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a"):
            pass
    except OSError as error:
        raise ParametersError(
            f"No JUnit file can be written to {file}: {error.strerror}.",
            state="Nothing was started.",
            safe_next="Name another file by --junit.",
        ) from None


def _write(file: Path, suites: Iterable[TestSuite]) -> None:
    from junitparser import JUnitXml

    made = JUnitXml("runbook")
    for each in suites:
        made.add_testsuite(each)
    made.update_statistics()
    made.write(str(file), pretty=True)
