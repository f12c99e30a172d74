"""A Dockerfile: the port that its container listens on, and what starts it."""

import json
import re
import shlex
from collections.abc import Iterator

from runbook_lib.init.found import Folder, Found, Service

RANK = 7


def find(folder: Folder) -> Iterator[Found]:
    """Port and command of a Dockerfile. Read-only."""
    for where, text in folder.files("Dockerfile"):
        ports = re.findall(r"^EXPOSE\s+(\d+)", text, re.MULTILINE | re.IGNORECASE)
        commands = re.findall(r"^CMD\s+(.+?)\s*$", text, re.MULTILINE | re.IGNORECASE)
        port = int(ports[-1]) if ports else None
        services = [Service("app", _line(commands[-1]), port)] if commands else ()
        yield Found(where, services=services, port=port)


def _line(command: str) -> str:
    """Return a command as a shell's line. Pure."""
    try:
        words = json.loads(command)
    except ValueError:
        return command
    return shlex.join(map(str, words)) if isinstance(words, list) else command
