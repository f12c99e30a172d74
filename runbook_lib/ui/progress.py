"""Follows a run's journal and reports each milestone as one line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from runbook_lib.journal.event import read

if TYPE_CHECKING:
    from rich.console import Console

POLL = 0.1  # seconds

Report = Callable[[str], None]


@contextmanager
def followed(journal: Path, report: Report) -> Iterator[None]:
    """Report every milestone added to a journal while the block runs. Read-only."""
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
        style = {"PASS": "green", "FAIL": "red", "UNKNOWN": "yellow", "VERIFIED": "bold green"}.get(
            line.split(":")[0].split()[0]
        )
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)

    return report


def _follow(file: TextIO, report: Report, ended: threading.Event) -> None:
    pending = ""
    last_look = False
    while True:
        pending += file.read()
        *lines, pending = pending.split("\n")
        for line in lines:
            event = json.loads(line)
            fact = read(event["kind"], event["data"])
            if fact and (text := fact.milestone()):
                report(text)
        if last_look:
            return
        last_look = ended.wait(POLL)
