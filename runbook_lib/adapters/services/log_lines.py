"""Picking the lines of a log that were written since a time."""

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

MTIME_LAG = 1.0  # seconds by which a file's time may lag behind what was written to it
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


def of_files(files: Iterable[Path], moment: datetime | None) -> list[str]:
    """The lines of those log files, given oldest first, that were written to at `moment` or later. Read-only.

    Raises:
        OSError: One cannot be read.
    """
    earliest = moment.timestamp() - MTIME_LAG if moment else 0.0
    recent = [file for file in files if file.stat().st_mtime >= earliest]
    return since((line for file in recent for line in file.read_text(errors="replace").splitlines()), moment)


def _stamp(line: str) -> datetime | None:
    match = _TIMESTAMP.match(line)
    if match is None:
        return None
    try:
        return datetime.fromisoformat(match[0]).astimezone()
    except ValueError:
        return None
