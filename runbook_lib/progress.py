"""Follows a run's journal from outside and tells each milestone, as one line."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

POLL = 0.1  # seconds

Told = Callable[[str], None]


def milestone(kind: str, data: dict[str, Any]) -> str:
    """The line that tells an event of the journal, "" for one that is no milestone."""
    match kind:
        case "notebook-started":
            return f"notebook {data['notebook']}"
        case "recommended":
            return f"triage recommends {data['type'] or 'nothing'}: {data['reason']}"
        case "diagnosed":
            return f"trouble found: {data['text']}"
        case "overridden":
            return f"OVERRIDDEN: {data['chosen']} instead of {data['recommended'] or 'nothing'}: {data['reason']}"
        case "chosen":
            return f"{data['name']} = {data['value']} ({data['by']})"
        case "checked" if data["status"] != "PASS" or data["round"] == "after":
            return f"{data['status']:7} {data['title']}: {data['summary']}"
        case "previewed":
            return f"previewed {len(data['steps'])} steps: {data['digest']}"
        case "approved":
            return f"approved {data['digest']} by {data['by']}"
        case "started":
            return f"{data['title']} …"
        case "found":
            return f"{data['title']}: {data['outcome']['found']}"
        case "applied" | "undone":
            return f"  {kind} in {data['seconds']:.1f} s"
        case "output":
            return f"  | {data['line']}"
        case "failed":
            return f"  FAILED: {data['error']}"
        case "escalated":
            return f"escalated from {data['from']} to {data['to']}: {data['because']}"
        case "left-out":
            return f"LEFT OUT {data['name']}: {data['reason']}"
        case "waived":
            return f"WAIVED {data['name']}: {data['reason']}"
        case "service-back":
            return "service back: " + ", ".join(f"{action} {step}" for action, step in data["moves"])
        case "taken-over":
            return f"TAKEN OVER from {data['before']}: {data['reason']}"
        case "taken-up":
            return f"TAKEN UP by {data['by']} on {data['host']}"
        case "outcome":
            return f"{data['status'].upper()}: {data['summary']}"
    return ""


@contextmanager
def followed(journal: Path, tell: Told) -> Iterator[None]:
    """Tell every milestone that is added to a journal while the block runs. Read-only."""
    ended = threading.Event()
    with open(journal, encoding="utf-8") as file:
        file.seek(0, 2)
        follower = threading.Thread(target=_follow, args=(file, tell, ended), daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()


def to_console(console: Console) -> Told:
    """Tell milestones to a terminal with colour, or elsewhere as plain lines."""

    def tell(line: str) -> None:
        style = {"PASS": "green", "FAIL": "red", "UNKNOWN": "yellow", "VERIFIED": "bold green"}.get(
            line.split(":")[0].split()[0]
        )
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)

    return tell


def _follow(file: TextIO, tell: Told, ended: threading.Event) -> None:
    pending = ""
    last_look = False
    while True:
        pending += file.read()
        *lines, pending = pending.split("\n")
        for line in lines:
            event = json.loads(line)
            if text := milestone(event["kind"], event["data"]):
                tell(text)
        if last_look:
            return
        last_look = ended.wait(POLL)
