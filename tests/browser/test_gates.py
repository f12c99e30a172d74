"""Nothing acts without its confirmation: stray keys, Run All, a wrong answer, the keyboard alone."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from ..support.browser_seat import STEP, Seat, Served, seated

STOP = 'apply(run, "stop-services")'
APPROVE = "await approve(run, APPROVE)"
APPROVAL = "Execute preview"


@pytest.fixture(scope="module")
def seat(browser: Browser, lab: Served) -> Iterator[Seat]:
    with seated(browser, lab.link) as opened:
        yield opened


def walk_to(seat: Seat, gate: str) -> None:
    """Run All in a fresh kernel, answering the gates before this one where they were not answered before."""
    seat.restart()
    seat.run_all()
    if gate != "OPTION":
        seat.choose_where_asked("OPTION", "A:")
    if gate == APPROVAL:
        seat.choose_details()
    expect(seat.waiting(gate)).to_be_visible(timeout=STEP)


@pytest.mark.newest
@pytest.mark.slow
@pytest.mark.parametrize(
    "gate", [pytest.param(gate, marks=pytest.mark.newest) for gate in ("OPTION", "STRATEGY")] + [APPROVAL]
)
def test_run_all_and_stray_keys_wait_at_every_gate(seat: Seat, lab: Served, gate: str) -> None:
    walk_to(seat, gate)
    seat.waiting(gate).scroll_into_view_if_needed()
    seat.picture(f"gate-{gate.lower().replace(' ', '-')}")
    before = seat.executed()
    seat.stray_keys(seat.waiting_cell)
    expect(seat.waiting(gate)).to_be_visible()
    seat.run_again()  # JupyterLab clears what the cell shows, the gate too: it can be called up below the banner
    expect(seat.waiting(gate)).to_be_hidden()
    seat.output("await open_run").get_by_role("button", name="Ask me here").click()
    expect(seat.waiting(gate)).to_be_visible()

    assert seat.executed() <= before
    assert "[*]" in (seat.cell(STOP).locator(".jp-InputPrompt").text_content() or "")
    assert not lab.state.approved
    assert lab.acted == []


def test_its_notebooks_run_on_a_kernel_that_reads_every_request(lab: Served) -> None:
    link = httpx.URL(lab.link)
    known = httpx.get(link.join("/api/kernelspecs"), params=link.params).json()

    assert known["default"] == "python3"
    assert any("runbook_lib.lab.kernel" in argument for argument in known["kernelspecs"]["python3"]["spec"]["argv"])


def test_a_step_run_without_its_approval_says_what_to_do(seat: Seat, lab: Served) -> None:
    seat.restart()
    for code in ("PLAN: str", "# Parameters", "await open_run", STOP):
        seat.run(code)

    expect(seat.output(STOP)).to_contain_text("Declined")
    expect(seat.output(STOP)).to_contain_text("approv")
    assert lab.acted == []


@pytest.mark.slow
@pytest.mark.newest
def test_the_keyboard_answers_the_approval_and_a_wrong_answer_ends_it(seat: Seat, lab: Served) -> None:
    walk_to(seat, APPROVAL)
    box = seat.waiting(APPROVAL)
    expect(box.get_by_role("textbox", name=re.compile("Type"))).to_be_visible()
    seat.press_to(seat.waiting_cell)
    seat.tab_to("Type")
    seat.page.keyboard.type("no")
    seat.page.keyboard.press("Tab")
    seat.page.keyboard.press("Enter")
    expect(seat.output(APPROVE)).to_contain_text("'no' was")
    seat.until_idle()
    assert "[ ]" in (seat.cell(STOP).locator(".jp-InputPrompt").text_content() or "")
    assert not lab.state.approved
    assert lab.acted == []
