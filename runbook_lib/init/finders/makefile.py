"""A Makefile with a rule `build`."""

import re
from collections.abc import Iterator

from runbook_lib.init.found import Folder, Found, within

RANK = 6


def find(folder: Folder) -> Iterator[Found]:
    """Return the build of a Makefile. Read-only."""
    for where, text in folder.files("Makefile"):
        if re.search(r"^build\s*:(?!=)", text, re.MULTILINE):
            yield Found(where, build=within(where, ["make", "build"]))
