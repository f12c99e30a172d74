"""Follow a run's journal from outside: a line for each step as it ends, one for all checks, one for each other milestone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from runbook_lib.checks import BEFORE
from runbook_lib.journal.event import clock, read
from runbook_lib.ui.terminal import wrapped

if TYPE_CHECKING:
    from rich.console import Console

POLL = 0.1  # seconds
STYLES = {"PASS": "green", "FAIL": "red", "UNKNOWN": "yellow", "VERIFIED": "bold green"}

Report = Callable[[str], None]


@contextmanager
def followed(journal: Path, report: Report) -> Iterator[None]:
    """Report what is added to a journal while the block runs. Read-only."""
    ended = threading.Event()
    with open(journal, encoding="utf-8") as file:
        file.seek(0, 2)
        follower = threading.Thread(target=_follow, args=(file, report, ended), daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()


def to_console(console: Console) -> Report:
    """Report milestones to a terminal in colour, or elsewhere as plain lines."""

    def report(line: str) -> None:
        style = STYLES.get(line.split(":")[0].split()[0])
        console.print(wrapped(line), style=style, highlight=False, markup=False, soft_wrap=True)

    return report


class _Lines:
    """What is reported of each event; final checks that pass are counted until another event follows."""

    def __init__(self) -> None:
        self._passed = 0
        self._began: datetime | None = None

    def of(self, event: Mapping[str, Any]) -> Iterator[str]:
        """The lines of the next event."""
        kind, data, at = event["kind"], event["data"], datetime.fromisoformat(event["at"])
        if kind == "checked":
            yield from self._of_check(data)
            return
        yield from self.counted()
        match kind:
            case "started":
                self._began = at
            case "found":
                yield _line(at, data["step"], f"already done: {data['outcome']['found']}")
            case "applied" | "undone":
                yield _line(at, data["step"], "done" if kind == "applied" else "undone", clock(data["seconds"]))
            case "failed":
                took = clock((at - self._began).total_seconds()) if self._began else ""
                yield f"{_line(at, data['step'], 'FAILED', took)}\n    {data['error']}"
            case _ if (fact := read(kind, data)) and (text := fact.milestone()):
                yield text

    def counted(self) -> Iterator[str]:
        """How many final checks passed since the last event of another kind, if any."""
        if self._passed:
            yield f"PASS    {self._passed} checks"
            self._passed = 0

    def _of_check(self, data: Mapping[str, Any]) -> Iterator[str]:
        if data["status"] != "PASS":
            earlier = " before the first step" if data["round"] == BEFORE else ""
            yield f"{data['status']:7} {data.get('title', '')} ({data['name']}){earlier}: {data.get('summary', '')}"
        elif data["round"] == "after":
            self._passed += 1


def _line(at: datetime, step: str, result: str, took: str = "") -> str:
    return f"{at:%H:%M:%S}Z {step:20} {result:7} {took}".rstrip()


def _follow(file: TextIO, report: Report, ended: threading.Event) -> None:
    pending, lines_of = "", _Lines()
    last_look = False
    while True:
        pending += file.read()
        *lines, pending = pending.split("\n")
        for line in lines:
            for text in lines_of.of(json.loads(line)):
                report(text)
        if last_look:
            for text in lines_of.counted():
                report(text)
            return
        last_look = ended.wait(POLL)
