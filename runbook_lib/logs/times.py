"""When a line of a log was written, by the line itself. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z| ?[+-]\d\d:?\d\d| UTC| GMT)?"
_PREFIX = r"(?:\d+\|\S+\s*\| |[\w.-]+\s+\| )?"  # pm2's and docker compose's
_LEADING = re.compile(rf"{_PREFIX}(?:[A-Z], )?[\[(\"]?({_ISO})")
_SLASHES = re.compile(rf"{_PREFIX}\[?(\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d+)?)")
_COMMON = re.compile(r"(?:\S+ ){1,4}\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]")
_NEST = re.compile(r"\[Nest\] \d+ +- (\d\d?/\d\d?/\d{4}, \d\d?:\d\d:\d\d [AP]M)")
_FIELD = r'(?<!\\)(?:"(?:time|timestamp|@timestamp|ts|@t|datetime|date)"\s*:\s*|\b(?:time|ts|timestamp)=)'
_ISO_FIELD = re.compile(rf'{_FIELD}"?({_ISO})')
_EPOCH_FIELD = re.compile(rf'{_FIELD}"?(\d{{9,11}}(?:\.\d+)?(?:e\d+)?|\d{{13}}(?:\.\d+)?|\d{{16}}|\d{{19}})(?![\d.])')


def written(line: str) -> datetime | None:
    """When a line was written; None where it does not say. A time without an offset is local time. Pure."""
    text = _COLOUR.sub("", line) if "\x1b" in line else line
    for pattern, read in _FORMS:
        if found := pattern.match(text):
            with suppress(ValueError):
                return read(found[1]).astimezone()
            return None
    if "{" in text[:80] or "=" in text[:80]:
        for pattern, read in _FIELDS:
            if found := pattern.search(text[:100_000]):
                with suppress(ValueError, OverflowError, OSError):
                    return read(found[1]).astimezone()
    return None


def _iso(text: str) -> datetime:
    return datetime.fromisoformat(re.sub(r" (?:UTC|GMT)$", "Z", re.sub(r" (?=[+-]\d\d:?\d\d$)", "", text)))


def _epoch(text: str) -> datetime:
    number = float(text)
    while number > 1e11:  # milliseconds, microseconds, nanoseconds
        number /= 1000
    return datetime.fromtimestamp(number, UTC)


def _form(form: str) -> Callable[[str], datetime]:
    return lambda text: datetime.strptime(text, form)  # local time where it has no offset


_FORMS: list[tuple[re.Pattern[str], Callable[[str], datetime]]] = [
    (_LEADING, _iso),
    (_SLASHES, lambda text: datetime.fromisoformat(text.replace("/", "-"))),
    (_COMMON, _form("%d/%b/%Y:%H:%M:%S %z")),
    (_NEST, _form("%m/%d/%Y, %I:%M:%S %p")),
]
_FIELDS: list[tuple[re.Pattern[str], Callable[[str], datetime]]] = [(_ISO_FIELD, _iso), (_EPOCH_FIELD, _epoch)]
