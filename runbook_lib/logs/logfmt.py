"""Lines of key=value pairs with a level, as logfmt, logrus, slog and Heroku's router write them."""

from __future__ import annotations

import re

from runbook_lib.logs import Format, Seen, severity
from runbook_lib.logs.access import PATH, served
from runbook_lib.logs.header import header

LEVEL = ("level", "lvl", "severity", "log.level", "at")
SAID = ("msg", "message", "event", "error", "err", "exception", "code", "desc")
_PAIR = re.compile(r'([A-Za-z_@][\w.@/-]*)=("(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'(?=\s|$)|\S*)(?:\s+|$)')
_WITHIN = re.compile(r'(?<![\w.@/-])([A-Za-z][\w.]*)=("[^"]*"|[^\s,}]*)')
_FLAG = re.compile(r"[\w.]+\s+")  # logfmt has keys without a value


def pairs(line: str, at: int) -> dict[str, str]:
    """Return the pairs of a line from a place on, the first of each key; none where it does not begin with one. Pure."""
    found: dict[str, str] = {}
    while match := _PAIR.match(line, at) or (_FLAG.match(line, at) if found else None):
        at = match.end()
        if match.lastindex:
            found.setdefault(match[1].lower(), match[2].strip("\"'"))
    return found


def _anywhere(text: str) -> dict[str, str]:
    """Return the pairs of a text that say of a request to this server how it was answered."""
    found = {key.lower(): value.strip("\"'") for key, value in _WITHIN.findall(text)}
    return found if any(found.get(key, "").startswith("/") for key in PATH) else {}


def look(line: str) -> Seen | None:
    """Return what the level among a line's pairs says of it, or the status of the request that it logs. Pure."""
    place = header(line)
    places = dict.fromkeys([0, *place.places, *([place.end] if place.severity is None else [])])
    found = next((each for at in places if (each := pairs(line, at))), {})
    level = next((found[key] for key in LEVEL if key in found), "")
    request = served(found)
    if not level:
        return request or served(_anywhere(line[place.end :]))
    grave = severity(level)
    if request and request.severity > grave:
        return request
    return Seen(grave, " ".join(found[key] for key in SAID if found.get(key)) or line)


LOGFMT = Format("logfmt", look)
