"""Picking the lines of a log that were written since a time."""

import re
from collections.abc import Iterable
from datetime import datetime

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?")


def since(lines: Iterable[str], moment: datetime | None) -> list[str]:
    """The lines stamped at `moment` or later, with the unstamped lines that follow each. Read-only.

    A stamp without an offset is local time. Lines before the first stamp are kept: their time is unknown.
    """
    if moment is None:
        return list(lines)
    # Stamps have milliseconds: a line of the same one may be later.
    earliest = moment.astimezone().replace(microsecond=moment.microsecond // 1000 * 1000)
    kept, keep = [], True
    for line in lines:
        stamp = _stamp(line)
        if stamp is not None:
            keep = stamp >= earliest
        if keep:
            kept.append(line)
    return kept


def _stamp(line: str) -> datetime | None:
    match = _TIMESTAMP.match(line)
    if match is None:
        return None
    try:
        return datetime.fromisoformat(match[0]).astimezone()
    except ValueError:
        return None
