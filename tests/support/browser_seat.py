"""Drives JupyterLab as a person would: by what can be seen, clicked and typed."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Error, Locator, Page, expect

from runbook_lib.journal import Journal
from runbook_lib.journal.state import RunState, replay

from .places import ROOT

LAB = ROOT / ".venv-lab"
PICTURES = ROOT / "outputs" / "browser-tests"
OLDER_KERNEL = LAB / "ipykernel-7.3"
SOURCE = ".jp-InputArea, .jp-InputPlaceholder"  # of a cell; the other one where it is collapsed
STEP = 60_000  # milliseconds that a cell may take

expect.set_options(timeout=STEP / 2)  # both cores are busy with other tests as well, and machines differ


@dataclass(frozen=True)
class Served:
    """A run that is open in JupyterLab, and where."""

    folder: Path
    link: str

    def at(self, notebook: str) -> "Served":
        """The same, at another notebook."""
        return Served(self.folder, re.sub(r"/lab/[^/]+\.ipynb", f"/lab/{notebook}.ipynb", self.link))

    @property
    def state(self) -> RunState:
        """The run by its journal as of now."""
        return replay(Journal(self.folder / "journal.jsonl").events())

    @property
    def acted(self) -> list[str]:
        """The steps that were begun, done or not."""
        return list(self.state.steps)

    def begun(self, step: str) -> int:
        """How often a step was begun."""
        events = Journal(self.folder / "journal.jsonl").events()
        return sum(event.kind == "started" and event.data["step"] == step for event in events)


def python_path(kernel: str) -> dict[str, str]:
    """The setting by which Python finds the project and that ipykernel."""
    return {"PYTHONPATH": f"{ROOT}{f':{OLDER_KERNEL}' if kernel == '7.3' else ''}"}


@contextmanager
def served(*arguments: str, environment: Mapping[str, str] = os.environ, kernel: str = "7.4") -> Iterator[Served]:
    """Run `runbook lab` in its own environment, its notebooks on that ipykernel, until the block ends, as by Ctrl-C."""
    process = subprocess.Popen(
        [LAB / "bin" / "runbook", "lab", *arguments, "--no-browser", "--json"],
        env={**environment, **python_path(kernel)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        said = json.loads(process.stdout.readline() or '{"error": "it ended with a traceback"}')
        assert "run" in said, f"runbook lab did not open: {said['error']}"
        yield Served(Path(said["run"]), said["link"])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(40)


@contextmanager
def seated(browser: Browser, link: str, *, idle: bool = True, **look: str) -> Iterator["Seat"]:
    """A page at the link; what it shows is kept where the block fails."""
    seat = Seat(browser.new_page(viewport={"width": 1280, "height": 800}, **look))  # type: ignore[arg-type]
    try:
        seat.go(link)
        if idle:
            seat.until_idle()
        yield seat
    except BaseException:
        with suppress(Error):
            seat.picture("failed")
            (PICTURES / "failed.txt").write_text(seat.notebook.inner_text())
        raise
    finally:
        seat.page.close()


class Seat:
    """One page of JupyterLab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.page.set_default_timeout(STEP)

    def go(self, link: str) -> None:
        """Open a link of this server and wait until its kernel is reached."""
        with self.connecting():
            self.page.goto(link)

    def until_at(self, notebook: str) -> None:
        """Wait until this notebook has opened by itself, and its kernel has nothing to do."""
        front = self.page.locator("#jp-main-dock-panel .lm-TabBar-tab.jp-mod-current")
        expect(front).to_contain_text(notebook, timeout=STEP)
        self.until_idle()

    @property
    def notebook(self) -> Locator:
        """The notebook that is in front."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    @property
    def panel(self) -> Locator:
        """The panel next to the notebook."""
        return self.page.locator(".runbook-panel:visible")

    def close_panel(self) -> None:
        """Click the cross of the panel's tab, which is drawn at its lower end."""
        box = self.page.locator(".jp-SideBar.jp-mod-right .lm-mod-closable").bounding_box()
        assert box
        self.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] - 28)

    def cell(self, code: str) -> Locator:
        """The code cell that holds this text."""
        return self.notebook.locator(".jp-CodeCell").filter(has=self.page.locator(SOURCE, has_text=code)).first

    def output(self, code: str) -> Locator:
        """What the cell that holds this text shows."""
        return self.cell(code).locator(".jp-OutputArea")

    def until_idle(self) -> None:
        """Wait until the kernel has nothing to do."""
        indicator = self.notebook.locator(".jp-Notebook-ExecutionIndicator")
        expect(indicator).to_have_attribute("data-status", "idle", timeout=STEP)
        expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=STEP)

    def run_all(self) -> None:
        """Choose Run All Cells in the menu."""
        self.menu("Run", "Run All Cells")

    def restart(self) -> None:
        """Choose Restart Kernel in the menu, and confirm it."""
        self.menu("Kernel", "Restart Kernel…")
        self.page.locator(".jp-Dialog button.jp-mod-accept").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")
        self.until_idle()

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Wait for the page to reach a kernel: until then JupyterLab refuses to run a cell, and says so."""
        with self.page.expect_websocket(lambda socket: "/channels" in socket.url, timeout=STEP):
            yield

    def menu(self, menu: str, item: str) -> None:
        """Choose an item of a menu."""
        self.page.locator(".lm-MenuBar-item", has_text=re.compile(f"^{menu}$")).click()
        self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{re.escape(item)}$")).click()

    def run(self, code: str) -> None:
        """Run the cell that holds this text by Shift+Enter."""
        self.cell(code).locator(".jp-InputPrompt").click()
        self.page.keyboard.press("Shift+Enter")

    def waiting(self, asked: str) -> Locator:
        """The box of the gate that asks this, while it waits."""
        return self.notebook.locator(".widget-vbox:visible", has_text=asked)

    @property
    def waiting_cell(self) -> Locator:
        """The cell whose gate waits."""
        return self.notebook.locator(".jp-CodeCell").filter(has=self.page.locator(".widget-vbox button"))

    def executed(self) -> set[str]:
        """The numbers of the cells that have run; a waiting one has a star."""
        prompts = self.notebook.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()
        return {text for text in prompts if any(character.isdigit() for character in text)}

    def press_to(self, cell: Locator, key: str = "ArrowUp") -> None:
        """Press an arrow key, in command mode, until this cell is the active one."""
        self.page.keyboard.press("Escape")
        active = self.page.locator(".jp-mod-active")
        for _ in range(120):
            if cell.and_(active).count():
                return
            self.page.keyboard.press(key)
        raise AssertionError(f"{key} does not lead to {cell}")

    def command(self, text: str) -> None:
        """Call a command of this name in the palette, by the keyboard."""
        self.page.keyboard.press("Control+Shift+C")
        palette = self.page.get_by_role("searchbox", name="Command Palette").or_(
            self.page.locator(".lm-CommandPalette-input")
        )
        expect(palette.first).to_be_focused()
        self.page.keyboard.type(text)
        expect(self.page.locator(".lm-CommandPalette-item").first).to_contain_text(text)
        self.page.keyboard.press("Enter")

    def tab_to(self, control: str) -> None:
        """Press Tab until the control of this name has the focus."""
        focused = "() => { const e = document.activeElement; return (e.labels?.[0] ?? e).innerText || '' }"
        for _ in range(40):
            self.page.keyboard.press("Tab")
            if control in self.page.evaluate(focused):
                return
        raise AssertionError(f"Tab does not lead to {control}")

    def stray_keys(self, cell: Locator) -> None:
        """Press each key that runs a cell on this one, and on its text, which stays; Shift+Enter again and again."""
        before = cell.locator(".cm-content").text_content()
        cell.locator(".jp-InputPrompt").click()
        for mode in ("Escape", "Enter"):
            self.page.keyboard.press(mode)
            for keys in (*["Shift+Enter"] * 3, "Control+Enter", "Alt+Enter"):
                self.page.keyboard.press(keys)
        self.page.keyboard.press("Escape")
        expect(cell.locator(".cm-content")).to_have_text(before or "")

    def run_again(self) -> None:
        """Have the cell that waits run, by the toolbar's button."""
        self.waiting_cell.locator(".jp-InputPrompt").click()
        self.page.locator(".jp-NotebookPanel-toolbar [data-jp-item-name=run]").click()

    def choose(self, name: str, text: str = "(recommended)") -> None:
        """Click the button of a choice that says this; a click just as it appears may go unheard, so once more then."""
        chosen = self.notebook.get_by_text(re.compile(rf"{name} = \w+ \(operator\)"))
        button = self.waiting(f"{name}:").get_by_role("button", name=text)
        button.click()
        with suppress(AssertionError, Error):
            expect(chosen).to_be_visible(timeout=STEP / 6)
            return
        button.click()
        expect(chosen).to_be_visible()

    def choose_where_asked(self, name: str, text: str) -> None:
        """Click the button of a choice that says this, unless it was chosen in this run before."""
        chosen = self.notebook.get_by_text(re.compile(rf"{name} = \w+ \("))
        asked = self.waiting(f"{name}:")
        expect(asked.or_(chosen).first).to_be_visible(timeout=STEP)
        if asked.count():
            self.choose(name, text)

    def choose_details(self, **chosen: str) -> None:
        """Answer every further choice, with the recommendation unless another is given."""
        cell = self.cell("await choose_details")
        over = cell.locator(".jp-InputPrompt", has_text=re.compile(r"\d"))
        while True:
            expect(over.or_(cell.locator(".widget-label")).first).to_be_visible(timeout=STEP)
            if over.count():
                return
            name = (cell.locator(".widget-label").first.text_content() or "").partition(":")[0]
            self.choose(name, chosen.get(name, "(recommended)"))

    def interrupt(self) -> None:
        """Click Interrupt in the toolbar."""
        self.notebook.get_by_role("button", name="Interrupt the kernel").click()

    def type_and_run(self, code: str) -> None:
        """Add a cell at the end, type this into it and run it."""
        cells = self.notebook.locator(".jp-CodeCell")
        before = cells.count()
        for _ in range(5):  # what is laid out only now may move the button away under the click
            self.notebook.get_by_role("button", name="Click to add a cell.").click()
            with suppress(AssertionError):
                expect(cells).to_have_count(before + 1, timeout=STEP / 12)
                break
        text = cells.last.locator(".cm-content")
        text.fill(code)
        expect(text).to_have_text(code)
        text.press("Shift+Enter")

    def approve(self) -> None:
        """Type what the approval asks for, and confirm."""
        box = self.waiting("Execute preview")
        expect(box).to_contain_text("to continue")
        asked = re.search(r"Type (\S+) to continue", box.text_content() or "")
        assert asked
        box.get_by_role("textbox").fill(asked[1])
        box.get_by_role("button", name="Confirm").click()

    def show(self, what: Locator) -> None:
        """Scroll until this is seen."""
        expect(what).to_be_visible(timeout=STEP)
        for _ in range(3):  # what comes into view above it is laid out only then, and moves it
            what.evaluate("element => element.scrollIntoView({block: 'end'})")
            self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        expect(what).to_be_in_viewport()

    def picture(self, name: str) -> Path:
        """Save a picture of the screen."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        file = PICTURES / f"{name}.png"
        self.page.screenshot(path=file)
        return file
