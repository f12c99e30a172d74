"""From the link to VERIFIED with real clicks, on both ipykernels."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from .browser_seat import Seat, Served, seated, served

WHOLE = "all 9 steps done"


@pytest.fixture(scope="module", params=["7.4", "7.3"], ids=lambda kernel: f"ipykernel-{kernel}")
def walked(request: pytest.FixtureRequest, browser: Browser) -> Iterator[tuple[Served, Seat]]:
    """A game day, walked from triage to the end."""
    older = request.param == "7.3"
    with served("--rehearsal", "--rows", "600", older_kernel=older) as lab, seated(browser, lab.link) as seat:
        seat.run_all()
        seat.choose("TYPE")
        seat.until_idle()
        seat.open("03-full-rollback")
        seat.run_all()
        seat.choose("OPTION", "A:")
        seat.choose("STRATEGY")
        seat.choose("EDITED")
        seat.approve()
        expect(seat.output("await close(run)")).to_contain_text(re.compile("VERIFIED|Error"), timeout=60_000)
        seat.until_idle()
        yield lab, seat


def test_real_clicks_lead_from_triage_to_verified(walked: tuple[Served, Seat]) -> None:
    lab, seat = walked
    seat.output("await close(run)").scroll_into_view_if_needed()
    seat.picture("verified")

    expect(seat.output("await close(run)")).to_contain_text(WHOLE)
    assert lab.state.outcome and lab.state.outcome["status"] == "verified"
