"""Lines of text with a level: Python, Nest, winston, pino-pretty, logback, zap, Ruby, PostgreSQL, nginx and others."""

from __future__ import annotations

from runbook_lib.logs import Format, Seen
from runbook_lib.logs.header import header


def look(line: str) -> Seen | None:
    """Return what the level in a line's header says of it. Pure."""
    found = header(line)
    if found.severity is None:
        return None
    return Seen(found.severity, line[found.end :].lstrip(" \t:|-]"))


LEVELED = Format("leveled", look, raises=True)
