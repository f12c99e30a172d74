"""From the link to VERIFIED with real clicks, on both ipykernels."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from runbook_lib import report

from ..support.browser_seat import STEP, Seat, Served, seated, served

SHOWN = ["await open_run", "await check_prerequisites", "await preview", "await compare", "await verify", "await close(run)"]
TOO_WIDE = """outputs => outputs
    .filter(o => o.scrollWidth > o.clientWidth + 1)
    .map(o => `${o.closest('.jp-Cell').textContent.trim().slice(0, 60)}: ${o.scrollWidth} > ${o.clientWidth}`)"""
ILLEGIBLE = """outputs => {  // texts whose contrast with what is behind them is below 4.5
    const channels = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
    const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
        .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const colour = channels(getComputedStyle(e).backgroundColor);
            if (colour.length === 3 || colour[3] > 0.5) return colour;
        }
        return [255, 255, 255];
    };
    const bad = new Set();
    for (const output of outputs) for (const e of output.querySelectorAll('*')) {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
        const [a, b] = [channels(getComputedStyle(e).color), behind(e)].map(luminance);
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) bad.add(`${contrast.toFixed(1)}: ${e.textContent.trim().slice(0, 60)}`);
    }
    return [...bad];
}"""
WHOLE = re.compile(r"VERIFIED: all \d+ steps done, all \d+ checks passed")


@pytest.fixture(scope="module")
def walked(kernel: str, browser: Browser) -> Iterator[tuple[Served, Seat]]:
    """A game day, walked from triage to the end."""
    with served("--rehearsal", "--rows", "600", kernel=kernel) as lab, seated(browser, lab.link) as seat:
        seat.run_all()
        expect(seat.waiting("TYPE:")).to_be_attached(timeout=STEP)
        seat.show(seat.output("await symptoms"))
        seat.picture("triage")
        seat.choose("TYPE")
        with seat.connecting():
            seat.choose("OPTION", "A:")
        seat.until_at("03-full-rollback-option-A")
        seat.run_all()
        seat.choose_details()
        seat.show(seat.waiting("Execute preview"))
        seat.picture("approval")
        seat.approve()
        expect(seat.output("await close(run)")).to_contain_text(re.compile("VERIFIED|Error"), timeout=2 * STEP)
        seat.until_idle()
        seat.page.add_style_tag(content=".jp-Cell, .jp-Cell * { content-visibility: visible !important }")  # lay all out
        yield lab, seat
    assert report.verify(lab.folder) == []  # also of what JupyterLab has saved


@pytest.mark.slow
def test_real_clicks_lead_from_triage_to_verified(walked: tuple[Served, Seat]) -> None:
    lab, seat = walked
    seat.show(seat.output("await close(run)"))
    seat.picture("verified")

    expect(seat.output("await close(run)")).to_contain_text(WHOLE)
    assert lab.state.outcome and lab.state.outcome["status"] == "verified"


def test_nothing_needs_sideways_scrolling_on_a_small_screen(walked: tuple[Served, Seat]) -> None:
    _, seat = walked
    outputs = seat.notebook.locator(".jp-OutputArea-output")

    assert outputs.count() > 20
    assert outputs.evaluate_all(TOO_WIDE) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_shown_is_legible_in_both_themes(walked: tuple[Served, Seat], scheme: str) -> None:
    _, seat = walked
    seat.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    expect(seat.page.locator("body")).to_have_attribute("data-jp-theme-light", str(scheme == "light").lower())
    for number, code in enumerate(SHOWN):
        seat.show(seat.output(code))
        seat.picture(f"{scheme}-{number}")

    assert seat.notebook.locator(".jp-OutputArea-output").evaluate_all(ILLEGIBLE) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_legible_and_needs_no_sideways_scrolling(
    browser: Browser, walked: tuple[Served, Seat], scheme: str
) -> None:
    lab, _ = walked
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto((lab.folder / "report.html").as_uri())
    expect(page.get_by_text("What is pending?")).to_be_in_viewport()
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true })")

    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.locator("body").evaluate_all(ILLEGIBLE) == []
    page.close()
