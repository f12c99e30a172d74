"""Triage by what the engineer sees: the symptoms ticked otherwise, and all of it by the keyboard alone."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from runbook_lib.rehearsal.stack import stack
from runbook_lib.rehearsal.workspace import OUTPUTS, PLAN, TARGET, settled_in
from runbook_lib.run import lifecycle

from ..support.browser_seat import STEP, Seat, Served, seated, served

SYMPTOMS = "await symptoms"
CHOICE = "await choose(run"
FREEZE = 'apply(run, "freeze-for-frontend")'
ASKED = re.compile(r"Type (\S+) to continue")

Begin = Callable[..., AbstractContextManager[Served]]


@pytest.fixture(scope="module")
def begin() -> Iterator[Begin]:
    """Begin a triage in JupyterLab on a stack where only the frontend is wrong."""

    @contextmanager
    def begin(target: Path = TARGET) -> Iterator[Served]:
        run = lifecycle.open_new(PLAN, target, "", operator="Dana", reason="a test of it", outputs=OUTPUTS)
        with served(str(run.folder.path)) as lab:
            yield lab

    with stack(600, "frontend-errors") as up, settled_in(up.environment):
        yield begin


@pytest.mark.slow
def test_a_tick_suggests_another_type_until_one_is_chosen(browser: Browser, begin: Begin) -> None:
    with begin() as lab, seated(browser, lab.link) as seat:
        seat.run_all()
        shown = seat.output(SYMPTOMS)
        expect(seat.waiting("TYPE:")).to_contain_text("► frontend: Quick: frontend alone (recommended)", timeout=STEP)
        expect(shown.get_by_role("checkbox", name="Frontend errors")).to_be_checked()

        for ticked in (
            "Recommended: full",
            "Recommended: frontend",
            "Recommended: full",
        ):  # again and again, while a cell waits
            shown.get_by_role("checkbox", name="All media missing").click()
            expect(shown).to_contain_text(ticked)
        expect(shown.get_by_role("row", name="► yes All media missing")).to_be_visible()
        seat.show(shown)
        seat.picture("ticked")
        seat.choose("TYPE")

        expect(seat.output(CHOICE)).to_contain_text("TYPE = full (operator)")
        expect(seat.waiting("OPTION:")).to_be_attached()
        expect(shown).to_contain_text("☑ All media missing (by Dana)")
        assert shown.get_by_role("checkbox").count() == 0
        assert lab.state.type == "full"


@pytest.mark.slow
def test_by_keyboard_alone_from_triage_to_a_confirmed_step(browser: Browser, begin: Begin, tmp_path: Path) -> None:
    production = tmp_path / "production.yaml"
    production.write_text(TARGET.read_text().replace("environment: rehearsal", "environment: production"))
    with begin(production) as lab, seated(browser, lab.link) as seat:
        keys = seat.page.keyboard
        seat.command("Run All Cells")
        expect(seat.waiting("TYPE:")).to_be_visible(timeout=STEP)
        seat.press_to(seat.cell(SYMPTOMS))
        seat.tab_to("All media missing")
        keys.press("Space")
        expect(seat.output(SYMPTOMS)).to_contain_text("Recommended: full")
        expect(seat.output(SYMPTOMS).get_by_role("checkbox", name="yes by Dana")).to_be_focused()
        keys.press("Space")
        expect(seat.output(SYMPTOMS)).to_contain_text("Recommended: frontend")
        seat.press_to(seat.waiting_cell, "ArrowDown")
        seat.tab_to("(recommended)")
        with seat.connecting():  # to the kernel of the notebook that opens by itself
            keys.press("Enter")
        seat.until_at("02-quick-rollback")
        seat.command("Run All Cells")
        expect(seat.waiting("Execute preview")).to_be_attached(timeout=STEP)
        seat.press_to(seat.waiting_cell)
        answered(seat, "Execute preview")
        answered(seat, "Execute “Freeze")
        expect(seat.output(FREEZE)).to_contain_text("done (", timeout=STEP)

        assert lab.state.approved
        assert lab.acted == ["freeze-for-frontend"]


def answered(seat: Seat, question: str) -> None:
    """Answer a question that waits by the keyboard alone, as it asks."""
    box = seat.waiting(question)
    expect(box).to_contain_text("to continue", timeout=STEP)
    asked = ASKED.search(box.text_content() or "")
    assert asked
    seat.tab_to("Type")
    seat.page.keyboard.type(asked[1])
    seat.page.keyboard.press("Tab")
    seat.page.keyboard.press("Enter")
    expect(box).to_be_hidden()
