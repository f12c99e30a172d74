"""Measure the user interface in JupyterLab: time until usable, time until a click is visible, and cost of the banner.

JupyterLab runs in a headless Chromium on the embedded stack, as in the browser tests.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, expect, sync_playwright  # noqa: E402

from runbook_lib.browser.chromium import launch_options  # noqa: E402
from tests.support.browser_seat import STEP, Seat, seated, served  # noqa: E402

OPERATOR = "rehearsal"
CLICKS = 10
LASTS = 20  # seconds of the step during which the banner is measured

# In the page: click, and return the milliseconds until the text is visible, looking at every frame.
CLICKED = """([box, text, shown]) => new Promise(done => {
    const output = box.closest('.jp-OutputArea');
    const begun = performance.now();
    const seen = () => {
        if (output.textContent.includes(text) === shown) done(performance.now() - begun); else requestAnimationFrame(seen);
    };
    box.click();
    requestAnimationFrame(seen);
})"""

# In the kernel: a step that works for a given time and reports progress ten times a second, with the banner updated.
LONG_STEP = """\
import json, time
from runbook_lib.ui import banner, step_runner
from runbook_lib.run.engine import Done

spent, update = [], banner.Banner.update


def timed(shown):
    begun = time.thread_time()
    try:
        return update(shown)
    finally:
        spent.append(time.thread_time() - begun)


def work(run, name):
    run.journal.append("started", step=name, title="A long step")
    until, done = time.monotonic() + {seconds}, 0
    while time.monotonic() < until:
        time.sleep(0.1)
        done += 1
        run.journal.append("progress", step=name, done=done, total={seconds} * 10, text="")
    run.journal.append("applied", step=name, seconds={seconds}, outcome={{}})
    return Done(name, "A long step", "done", {seconds}, {seconds}, {{}}, [])


banner.Banner.update = timed
begun = time.monotonic()
_ = await step_runner.run_step(run, "freeze", work)
banner.Banner.update = update
print("SHARE " + json.dumps([sum(spent), time.monotonic() - begun, len(spent)]))
"""


@dataclass(frozen=True)
class Bar:
    """What a figure must not exceed."""

    name: str
    limit: float
    unit: str

    def report(self, values: list[float]) -> bool:
        """Print the median of the values and the bar; return whether it is kept."""
        kept = median(values) <= self.limit
        few = f"({min(values):.2f} to {max(values):.2f}, {len(values)} values)"
        print(f"  {self.name:58} {median(values):8.2f} {self.unit:2} {few}", flush=True)
        print(f"    bar {self.limit:g} {self.unit}: {'kept' if kept else 'missed'}", flush=True)
        return kept


OPENED = Bar("from `runbook lab --rehearsal` to a usable triage cell", 15, "s")
CLICK = Bar("from a click to its visible effect", 200, "ms")
SHARE = Bar("the banner's share of a long step, in CPU time", 1, "%")


@contextmanager
def opened(browser: Browser, rows: int, took: list[float]) -> Iterator[Seat]:
    """Yield a game day, open in the page; add the seconds from the command until the first cell of the triage is usable."""
    begun = monotonic()
    with served("--rehearsal", "--rows", str(rows)) as lab:
        link = monotonic() - begun
        with seated(browser, lab.link) as seat:
            expect(seat.cell("await symptoms")).to_be_visible()
            took.append(monotonic() - begun)
            print(f"  stack and JupyterLab {link:.1f} s, page and kernel {took[-1] - link:.1f} s", flush=True)
            yield seat


def clicks(seat: Seat) -> list[float]:
    """Return the milliseconds from ticking a symptom, while another cell waits, until the page shows its effect."""
    seat.run_all()
    expect(seat.waiting("TYPE:")).to_be_visible(timeout=STEP)
    took = []
    for number in range(CLICKS):
        seat.page.wait_for_timeout(300)  # one click at a time
        box = seat.output("await symptoms").get_by_role("checkbox", name="Data corruption").element_handle()
        text = f"yes, says {OPERATOR}"  # is there after every other click
        took.append(float(seat.page.evaluate(CLICKED, [box, text, number % 2 == 0])))
    seat.choose("TYPE")
    expect(seat.waiting("OPTION:")).to_be_attached()
    seat.interrupt()  # an answer would open the next notebook
    seat.until_idle()
    return took


def share(seat: Seat) -> list[float]:
    """Return the CPU time of the banner's updates during a long step, in percent of the time that the step takes."""
    seat.notebook.get_by_role("button", name="Click to add a cell.").click()
    seat.page.keyboard.press("Enter")
    seat.page.keyboard.insert_text(LONG_STEP.format(seconds=LASTS))
    seat.page.keyboard.press("Shift+Enter")
    share = seat.notebook.get_by_text(re.compile(r"SHARE \["))
    expect(share).to_be_visible(timeout=(LASTS + 30) * 1000)
    spent, took, updates = json.loads((share.text_content() or "").partition("SHARE ")[2])
    print(f"  the banner was looked at {updates} times in {took:.1f} s, {1000 * spent / updates:.1f} ms each", flush=True)
    return [100 * spent / took]


def main() -> int:
    """Measure each figure; return 1 if one misses its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="rows in the table (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often JupyterLab is opened (default: %(default)s)")
    options = parser.parse_args()
    ready: list[float] = []
    clicked: list[float] = []
    shares: list[float] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options())
        for number in range(options.rounds):
            with opened(browser, options.rows, ready) as seat:
                if number == 0:
                    clicked += clicks(seat)
                    shares += share(seat)
        browser.close()
    print("user interface: median (min to max)")
    kept = [OPENED.report(ready), CLICK.report(clicked), SHARE.report(shares)]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
