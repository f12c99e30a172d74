"""Rehearsals as JUnit XML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runbook_lib.config.plan import Plan
from runbook_lib.journal import Journal
from runbook_lib.journal.state import replay
from runbook_lib.rehearsal import rehearse
from runbook_lib.rehearsal.again import ROUNDS
from runbook_lib.rehearsal.migration import Rehearsal, in_words
from runbook_lib.rehearsal.own import OwnRehearsed
from runbook_lib.rehearsal.rehearse import Line, Rehearsed
from runbook_lib.report import junit
from runbook_lib.results import Status
from runbook_lib.run import lifecycle

if TYPE_CHECKING:
    from junitparser import TestSuite

MIGRATION, MATRIX = "rehearsal.migration", "rehearsal.matrix"


def of_scenario(name: str) -> str:
    """Return the name of a scenario's suite. Pure."""
    return f"rehearsal.{name}"


def of_rehearsed(found: Iterable[Rehearsed]) -> list[TestSuite]:
    """Return the rehearsal of each scenario, by the journal of its run. Read-only."""
    return [_of_rehearsed(each) for each in found]


def _of_rehearsed(found: Rehearsed) -> TestSuite:
    folder, plan, _ = lifecycle.read(Path(found.run))
    name = of_scenario(found.scenario)
    again, problems = (found.events, found.problems) if isinstance(found, OwnRehearsed) else ((), [])
    events = again or Journal(folder.journal_path).events()
    made, state = junit.of_run(plan, events, name), replay(events)
    for round_name in ROUNDS:
        made.add_testcases(junit.of_round(state, name, round_name))
    why = "; ".join([f"ended as {found.type or 'nothing'}: {found.status}", *problems])
    ended = junit.by_exit_code(found.exit_code, why)
    made.add_testcase(junit.case(name, "as expected", ended, found.seconds))
    return made


def of_matrix(plan: Plan, lines: Sequence[Line]) -> list[TestSuite]:
    """Return the decision matrix: a case for each of its faults. Read-only."""
    wrong = rehearse.problems(plan, [*lines])
    cases = []
    for line in lines:
        own = "\n".join(each for each in wrong if each.startswith(f"{line.fault}: "))
        cases.append(junit.case(MATRIX, line.fault, (Status.FAIL if own else Status.PASS, own), line.seconds))
    missing = "\n".join(each for each in wrong if each.startswith("no fault for "))
    cases.append(junit.case(MATRIX, "every row has a fault", (Status.FAIL if missing else Status.PASS, missing)))
    return [junit.suite(MATRIX, cases)]


def of_migration(found: Rehearsal) -> list[TestSuite]:
    """Return the rehearsal of a migration: rollback, undo, and the migration again. Pure."""
    why = "\n".join(in_words(found, verbose=False))
    cases = [
        junit.case(MIGRATION, "rollback", junit.by_exit_code(found.exit_code, why), found.seconds),
        junit.case(MIGRATION, "undo", _maybe(found.undo_exact, why)),
        junit.case(MIGRATION, "migration again", _maybe(found.redeploys, why)),
    ]
    return [junit.suite(MIGRATION, cases)]


def _maybe(held: bool | None, why: str) -> junit.Ending:
    return (junit.SKIPPED, "not tried") if held is None else (Status.PASS if held else Status.FAIL, why)
