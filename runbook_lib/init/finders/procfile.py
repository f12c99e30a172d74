"""A Procfile: the name and the command of each process."""

import re
from collections.abc import Iterator

from runbook_lib.init.found import Folder, Found, Service

RANK = 3
ONCE = {"release"}  # run by a deploy, and ended then


def find(folder: Folder) -> Iterator[Found]:
    """Return the processes of a Procfile. Read-only."""
    for where, text in folder.files("Procfile"):
        lines = re.findall(r"^([A-Za-z0-9_-]+):\s*(\S.*?)\s*$", text, re.MULTILINE)
        yield Found(where, services=[Service(name, command) for name, command in lines if name not in ONCE])
