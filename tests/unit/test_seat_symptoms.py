"""The symptoms: ticked by the probes, decided by whom, and what follows from it."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.errors import ParametersError
from runbook_lib.results import Result, Status
from runbook_lib.run import Run
from runbook_lib.triage import decision_matrix
from runbook_lib.triage.decision_matrix import Word
from runbook_lib.ui import display, step_runner, triage_cells, widgets

GONE, CORRUPT = "All media missing", "Data corruption"


class Screen:
    """What a notebook would show: each display as it stands after its updates."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def show(self, what: Any, display_id: bool = False) -> "Handle":
        self.shown.append(what)
        return Handle(self, len(self.shown) - 1)

    @property
    def texts(self) -> list[str]:
        return [str(what) for what in self.shown if isinstance(what, display.Shown)]

    @property
    def boxes(self) -> dict[str, Any]:
        (box,) = [what for what in self.shown if hasattr(what, "children")]
        return {child.description.partition(" (")[0]: child for child in box.children[1:]}


class Handle:
    def __init__(self, screen: Screen, place: int) -> None:
        self.screen, self.place = screen, place

    def update(self, what: Any) -> None:
        self.screen.shown[self.place] = what


@pytest.fixture
def probed(run: Run, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run without a type, whose probes find that all media are missing."""
    run.context.state = replace(run.context.state, type="")
    gone = next(row.own for row in plan.decision_matrix if row.symptom == GONE)
    found = [Result(n, n, Status.FAIL if n == gone else Status.PASS, "seen") for n in decision_matrix.checks_needed(plan)]
    monkeypatch.setattr(run, "observe", lambda *_: found)
    return run


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A person sits there."""
    made = Screen()
    for module in (step_runner, triage_cells, widgets):
        monkeypatch.setattr(module, "show", made.show)
    for module in (step_runner, triage_cells, widgets):
        monkeypatch.setattr(module, "attended", lambda: True)
    return made


def said(run: Run) -> list[tuple[str, str, str, str]]:
    events = [event.data for event in run.journal.events() if event.kind == "symptom"]
    return [(data["symptom"], data["value"], data["probes"], data["by"]) for data in events]


def test_each_symptom_is_a_labelled_checkbox_that_the_probes_have_ticked(screen: Screen, probed: Run, plan: Plan) -> None:
    asyncio.run(triage_cells.symptoms(probed))

    assert list(screen.boxes) == [row.symptom for row in plan.decision_matrix]
    assert [name for name, box in screen.boxes.items() if box.value] == [GONE]
    assert screen.boxes[GONE].description == f"{GONE} (yes by the probes)"
    assert said(probed) == []


def test_a_tick_is_journaled_with_its_author_and_changes_the_advice(screen: Screen, probed: Run) -> None:
    asyncio.run(triage_cells.symptoms(probed))
    assert triage_cells.recommended(probed) == "full"

    screen.boxes[GONE].value = False
    assert triage_cells.recommended(probed) == ""

    screen.boxes[CORRUPT].value = True
    assert triage_cells.recommended(probed) == "restore"
    assert said(probed) == [(GONE, "no", "yes", "Dana"), (CORRUPT, "yes", "no", "Dana")]
    assert f"► yes | {CORRUPT}" in screen.texts[-1]
    assert "Recommended: restore" in screen.texts[-1]
    assert screen.boxes[CORRUPT].description == f"{CORRUPT} (no by the probes, yes by Dana)"


def test_a_tick_can_be_taken_back(screen: Screen, probed: Run) -> None:
    asyncio.run(triage_cells.symptoms(probed))

    screen.boxes[GONE].value = False
    screen.boxes[GONE].value = True

    assert triage_cells.recommended(probed) == "full"
    assert screen.boxes[GONE].description == f"{GONE} (yes by the probes)"


def test_a_tick_stays_when_the_cell_is_run_again(screen: Screen, probed: Run) -> None:
    asyncio.run(triage_cells.symptoms(probed))
    screen.boxes[GONE].value = False
    screen.boxes[CORRUPT].value = True
    screen.shown.clear()

    asyncio.run(triage_cells.symptoms(probed))

    assert [name for name, box in screen.boxes.items() if box.value] == [CORRUPT]
    assert triage_cells.recommended(probed) == "restore"


def test_once_the_type_is_chosen_static_text_is_left(
    screen: Screen, probed: Run, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def choice(name: str, options: Any, value: str, suggested: Any, **_: Any) -> tuple[str, str]:
        return suggested(), "operator"

    monkeypatch.setattr(triage_cells, "choice", choice)
    asyncio.run(triage_cells.symptoms(probed))
    screen.boxes[GONE].value = False
    screen.boxes[CORRUPT].value = True

    assert asyncio.run(triage_cells.choose(probed, "TYPE", "")) == "restore"

    assert [what for what in screen.shown if hasattr(what, "children")] == []
    (left,) = [text for text in screen.texts if text.startswith("Symptoms, by the probes")]
    assert f"☐ {GONE} (by Dana)" in left
    assert f"☑ {CORRUPT} (by Dana)" in left
    screen.shown.clear()
    probed.refresh()
    assert "☑" in str(asyncio.run(triage_cells.symptoms(probed)))


def test_headless_the_parameter_decides(probed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")

    shown = asyncio.run(triage_cells.symptoms(probed, f"{GONE}=no, {CORRUPT}=yes"))

    assert said(probed) == [(GONE, "no", "yes", "parameter"), (CORRUPT, "yes", "no", "parameter")]
    assert triage_cells.recommended(probed) == "restore"
    assert f"☑ {CORRUPT} (by parameter)" in str(shown)


@pytest.mark.parametrize("given", ["All media=no", f"{GONE}=perhaps", "no"])
def test_a_symptom_that_is_not_in_the_matrix_is_an_error_before_any_probe(
    run: Run, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr(run, "observe", lambda *_: pytest.fail("It was probed."))

    with pytest.raises(ParametersError):
        asyncio.run(triage_cells.symptoms(run, given))


def test_a_word_that_agrees_with_the_probes_changes_nothing(plan: Plan) -> None:
    gone = next(row.own for row in plan.decision_matrix if row.symptom == GONE)
    found = [Result(n, n, Status.FAIL if n == gone else Status.PASS, "seen") for n in decision_matrix.checks_needed(plan)]

    assert decision_matrix.recommend(plan, found, {GONE: Word("yes", "Dana")}) == decision_matrix.recommend(plan, found)


def test_each_type_says_what_choosing_it_means(plan: Plan) -> None:
    means = {name: triage_cells.consequence(plan, name) for name in plan.rollbacks}

    assert "services are down for about 30 s of it. No data changes" in means["frontend"]
    assert "services are down for about" in means["full"] and "counted for each option" in means["full"]
    assert means["data"].startswith("Executed as full. ")
