"""pm2's ecosystem file: the names of its apps, as far as its text shows them; it is code, which is not executed."""

import re
from collections.abc import Iterator

from runbook_lib.init.found import Folder, Found, Service

RANK = 2
NAMES = ("ecosystem.config.js", "ecosystem.config.cjs", "ecosystem.config.json", "ecosystem.json")


def find(folder: Folder) -> Iterator[Found]:
    """Return the apps of an ecosystem file. Read-only."""
    for where, text in folder.files(
        "ecosystem.config.js", "ecosystem.config.cjs", "ecosystem.config.json", "ecosystem.json"
    ):
        apps = re.split(r"(?=[\"']?\bname[\"']?\s*:)", text)[1:]
        yield Found(where, "pm2", [service for app in apps if (service := _app(app))])


def _app(text: str) -> Service | None:
    name, script, port = (
        re.search(rf"[\"']?\b{key}[\"']?\s*:\s*[\"']?([\w./-]+)", text) for key in ("name", "script", "PORT")
    )
    if not name:
        return None
    command = f"node {script[1]}" if script and re.search(r"\.[cm]?js$", script[1]) else ""
    return Service(name[1], command, int(port[1]) if port and port[1].isdigit() else None)
