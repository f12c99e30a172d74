"""When a line of a log was written, by the line itself. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from runbook_lib.logs import ERRORS, OTHERS

_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z| ?[+-]\d\d:?\d\d| UTC| GMT)?"
_PREFIX = r"(?:\d+\|\S+\s*\| |[\w.-]+\s+\| |\[[\w./:-]+\] )?"  # pm2's, docker compose's, a name
_LEVEL = rf"(?:\[?(?:{'|'.join([*ERRORS, *OTHERS]).upper()})(?:\]|:)*\s*|[A-Z], |<\d+>1 )?"
_ZONE = r"[ECMP][SD]T|C?EE?S?T|WES?T|BST|IST|JST|MSK|A[EC][SD]T|NZ[SD]T|SGT|HKT"  # what is not the machine's is not known
_LEADING = re.compile(rf"{_PREFIX}{_LEVEL}[\[(\"]?({_ISO})(?: ({_ZONE})\b)?")
_SLASHES = re.compile(rf"{_PREFIX}{_LEVEL}\[?(\d{{4}}[/.]\d\d[/.]\d\d \d\d:\d\d:\d\d(?:\.\d+)?)")
_CLOCK = r"\d\d:\d\d:\d\d"
_MONTH = r"[A-Z][a-z]{2}"
_NAMES = r"(?:time|timestamp|@timestamp|ts|@t|datetime|date|asctime|__realtime_timestamp)"
_FIELD = rf'(?i:(?<!\\)(?:"{_NAMES}"\s*:\s*|"t"\s*:\s*{{"\$date"\s*:\s*|\b(?:time|ts|timestamp|t)=))'
_ISO_FIELD = re.compile(rf"{_FIELD}[\"']?({_ISO})")
_EPOCH_FIELD = re.compile(rf'{_FIELD}"?(\d{{9,11}}(?:\.\d+)?(?:e\d+)?|\d{{13}}(?:\.\d+)?|\d{{16}}|\d{{19}})(?![\d.])')


def written(line: str) -> datetime | None:
    """Return when a line was written; None where it does not say. A time without an offset is local time. Pure."""
    text = _COLOUR.sub("", line) if "\x1b" in line else line
    for pattern, read in _FORMS:
        if found := pattern.match(text):
            if pattern is _LEADING and found[2] and found[2] not in time.tzname:
                return None
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
    return lambda text: datetime.strptime(" ".join(text.split()), form)  # local time where it has no offset


def _form_utc(form: str) -> Callable[[str], datetime]:
    return lambda text: _form(form)(text).replace(tzinfo=UTC)


def _without_year(form: str) -> Callable[[str], datetime]:
    """Return the latest such moment that is not to come."""

    def read(text: str) -> datetime:
        now = datetime.now()  # local time
        years = (datetime.strptime(f"{year} {' '.join(text.split())}", f"%Y {form}") for year in (now.year, now.year - 1))
        return next(each for each in years if each < now + timedelta(days=1))

    return read


_FORMS: list[tuple[re.Pattern[str], Callable[[str], datetime]]] = [
    (_LEADING, _iso),
    (_SLASHES, lambda text: datetime.fromisoformat(re.sub("[/.]", "-", text[:10]) + text[10:])),
    (re.compile(rf"(?:\S+ ){{1,4}}\[(\d\d/{_MONTH}/\d{{4}}:{_CLOCK} [+-]\d{{4}})\]"), _form("%d/%b/%Y:%H:%M:%S %z")),
    (re.compile(rf"(?:\S+ ){{0,4}}\[(\d\d/{_MONTH}/\d{{4}} {_CLOCK})\]"), _form("%d/%b/%Y %H:%M:%S")),  # Python's
    (re.compile(rf"\[?(\d\d-{_MONTH}-\d{{4}} {_CLOCK} UTC)\]"), _form_utc("%d-%b-%Y %H:%M:%S UTC")),  # PHP's
    (re.compile(rf"\[?(\d\d-{_MONTH}-\d{{4}} {_CLOCK})(?=[.\]])"), _form("%d-%b-%Y %H:%M:%S")),  # and Tomcat's
    (re.compile(rf"{_MONTH}, (\d\d {_MONTH} \d{{4}} {_CLOCK}) GMT"), _form_utc("%d %b %Y %H:%M:%S")),
    (re.compile(rf"\[{_MONTH} ({_MONTH} [ \d]\d {_CLOCK})\S* \d{{4}}\]"), _without_year("%b %d %H:%M:%S")),  # Apache's
    (re.compile(rf"({_MONTH} \d\d?, \d{{4}} \d\d?:\d\d:\d\d [AP]M)"), _form("%b %d, %Y %I:%M:%S %p")),  # Java's
    (re.compile(rf"\[GIN\] (\d{{4}}/\d\d/\d\d - {_CLOCK})"), _form("%Y/%m/%d - %H:%M:%S")),
    (re.compile(rf"\[(\d\d/\d\d/\d\d {_CLOCK})\]"), _form("%m/%d/%y %H:%M:%S")),  # Rich's
    (re.compile(r"\[Nest\] \d+ +- (\d\d?/\d\d?/\d{4}, \d\d?:\d\d:\d\d\s[AP]M)"), _form("%m/%d/%Y, %I:%M:%S %p")),
    (re.compile(rf"\[Nest\] \d+ +- (\d\d/\d\d/\d{{4}}, {_CLOCK}) (?! *[AP]M)"), _form("%d/%m/%Y, %H:%M:%S")),
    (
        re.compile(rf"(?:\[Nest\] \d+ +- )?(\d\d?\.\d\d?\.\d{{4}},? {_CLOCK})"),
        lambda text: _form("%d.%m.%Y %H:%M:%S")(text.replace(",", "")),
    ),
    (re.compile(rf"({_MONTH} [ \d]\d {_CLOCK}) "), _without_year("%b %d %H:%M:%S")),  # syslog's and journald's
    (re.compile(rf"[IWEF](\d{{4}} {_CLOCK})"), _without_year("%m%d %H:%M:%S")),  # klog's
    (re.compile(r"(\d{10}\.\d+|\d{13})(?=\s)"), _epoch),
]
_FIELDS: list[tuple[re.Pattern[str], Callable[[str], datetime]]] = [
    (_ISO_FIELD, _iso),
    (_EPOCH_FIELD, _epoch),
    (
        re.compile(rf'"time_local"\s*:\s*"(\d\d/{_MONTH}/\d{{4}}:{_CLOCK} [+-]\d{{4}})'),
        _form("%d/%b/%Y:%H:%M:%S %z"),
    ),  # nginx'
]
