"""The panel next to the notebook: it shows what waits, answers as the cell does, and comes back when it was closed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from playwright.sync_api import Browser, expect

from runbook_lib.rehearsal.stack import stack
from runbook_lib.rehearsal.workspace import OUTPUTS, PLAN, TARGET, settled_in
from runbook_lib.run import lifecycle

from ..support.browser_seat import STEP, Seat, Served, seated, served

ROWS = 600
Begin = Callable[[], AbstractContextManager[Served]]
OPTION = 'choose(run, "OPTION", OPTION)'
STOP = 'apply(run, "stop-services")'
ASKED = "OPTION: what happens to the data?"


@pytest.fixture(scope="module")
def kernel() -> str:
    """Before 7.4 a page that is opened while a cell waits gets no answer from the kernel, so no panel either."""
    return "7.4"


@pytest.fixture(scope="module")
def begin(kernel: str) -> Iterator[Begin]:
    """Begin a full rollback in JupyterLab, on a stack that the tests share."""

    @contextmanager
    def begin() -> Iterator[Served]:
        run = lifecycle.open_new(PLAN, TARGET, "full", operator="tester", reason="a test of it", outputs=OUTPUTS)
        with served(str(run.folder.path), kernel=kernel) as lab:
            yield lab

    with stack(ROWS) as up, settled_in(up.environment):
        yield begin


@pytest.fixture
def lab(begin: Begin) -> Iterator[Served]:
    with begin() as opened:
        yield opened


@pytest.fixture
def seat(browser: Browser, lab: Served) -> Iterator[Seat]:
    """A page where Run All waits for the option."""
    with seated(browser, lab.link) as opened:
        opened.run_all()
        expect(opened.waiting(ASKED)).to_be_attached(timeout=STEP)
        yield opened


@pytest.mark.slow
def test_the_question_is_seen_without_scrolling_and_answered_in_the_panel(seat: Seat, lab: Served) -> None:
    expect(seat.panel.get_by_text(ASKED)).to_be_in_viewport()
    expect(seat.panel).to_contain_text("rehearsal (REHEARSAL)")
    expect(seat.panel).to_contain_text("services are down for about")
    expect(seat.panel.get_by_role("button", name="B: Remove the columns")).to_be_visible()
    seat.picture("panel")

    seat.panel.get_by_text("Steps:").click()  # the focus is in the panel now
    for keys in ("Shift+Enter", "Control+Enter", "Enter", "Space"):
        seat.page.keyboard.press(keys)
    expect(seat.waiting(ASKED)).to_be_attached()
    assert "OPTION" not in lab.state.choices

    seat.close_panel()
    expect(seat.panel).to_have_count(0)
    expect(seat.waiting(ASKED)).to_be_attached()
    seat.output("await open_run").get_by_role("button", name="Open the panel").click()  # heard while the cell waits
    expect(seat.panel.get_by_text(ASKED)).to_be_in_viewport()

    seat.panel.get_by_role("button", name="B: Remove the columns").click()
    expect(seat.output(OPTION)).to_contain_text("OPTION = B (operator)")
    expect(seat.panel.get_by_text(ASKED)).to_have_count(0)
    assert lab.state.option == "B"
    assert lab.acted == []

    seat.restart()
    seat.run_all()
    expect(seat.panel.get_by_text("option B: Remove the columns")).to_be_visible(timeout=STEP)
    expect(seat.panel).to_have_count(1)  # that of the kernel before is gone


@pytest.mark.slow
def test_a_second_page_on_the_kernel_asks_the_same_and_one_answer_counts(seat: Seat, lab: Served, browser: Browser) -> None:
    with seated(browser, lab.link, idle=False) as second:
        expect(second.panel.get_by_role("button", name="(recommended)")).to_be_visible(timeout=STEP)
        second.panel.get_by_role("button", name="(recommended)").click()

    expect(seat.panel.get_by_text(ASKED)).to_have_count(0)
    assert "[*]" in (seat.cell(STOP).locator(".jp-InputPrompt").text_content() or "")
    assert lab.acted == []


@pytest.mark.slow
def test_the_contents_are_open_and_no_cell_of_parameters(seat: Seat) -> None:
    contents = seat.page.locator("#jp-left-stack .jp-TableOfContents")
    expect(contents).to_be_visible()
    expect(contents).to_contain_text("Before the first change")
    expect(seat.cell("await open_run").locator(".cm-content")).to_be_visible()

    collapsed = seat.notebook.locator(".jp-CodeCell").filter(has=seat.page.locator(".jp-InputPlaceholder"))
    expect(collapsed).to_contain_text(["PLAN: str", "# Parameters"])
    expect(collapsed.locator(".cm-content:visible")).to_have_count(0)
