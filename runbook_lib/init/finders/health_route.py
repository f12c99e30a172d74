"""The address at which a service says that it is well, as its code names it."""

import re
from collections.abc import Iterator

from runbook_lib.init.found import SKIPPED, Folder, Found

RANK = 10
SUFFIXES = {".py", ".js", ".mjs", ".cjs", ".ts", ".go", ".rb", ".java", ".php"}
MOST_FILES = 500
ROUTE = re.compile(r"[\"'`](/(?:api/)?(?:health|healthz|health-?check|livez|readyz|status|ping))[\"'`]")


def find(folder: Folder) -> Iterator[Found]:
    """Return the first route of a usual name. Read-only."""
    for where, text in _sources(folder):
        if route := ROUTE.search(text):
            yield Found(where, health=route[1])
            return


def _sources(folder: Folder) -> Iterator[tuple[str, str]]:
    paths = (path.relative_to(folder.path) for suffix in SUFFIXES for path in folder.path.rglob(f"*{suffix}"))
    own = [path for path in paths if not any(part.startswith(".") or part in SKIPPED for part in path.parts)]
    for path in sorted(own, key=lambda path: (len(path.parts), path))[:MOST_FILES]:
        yield str(path), (folder.path / path).read_text(errors="replace")
