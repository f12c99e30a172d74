"""Log files that their manager rotates: where they end now, and their lines since a moment or since such an end."""

import gzip
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, cast

from runbook_lib.services import has_times, lines_since, split_lines

MTIME_LAG = 1.0  # seconds by which a file's time may lag behind what was written to it


class UnplacedError(Exception):
    """The lines of a file have no time, and no mark says where they begin."""


def mark(logs: Iterable[Sequence[Path]]) -> dict[str, Any]:
    """Where logs end now, as JSON; each is its rotated files, oldest first, and the file that is written to. Read-only."""
    return {str(files[-1]): _end(files) for files in logs}


def lines(logs: Iterable[Sequence[Path]], since: datetime | None, mark: Mapping[str, Any]) -> list[str]:
    """Return the lines of logs, those from `since` on and after `mark`, where there is one. Read-only.

    Raises:
        OSError: A file cannot be read.
        UnplacedError: Lines have no time, and there is no mark of their log.
    """
    return [line for files in logs for line in _lines(files, since, mark.get(str(files[-1])))]


def _lines(files: Sequence[Path], since: datetime | None, end: Mapping[str, Any] | None) -> list[str]:
    if since is None:
        return [line for file in files for line in _read(file, 0)]
    if end is not None:
        return lines_since((line for file, offset in _after(files, end) for line in _read(file, offset)), since)
    earliest = since.timestamp() - MTIME_LAG
    found = [line for file in files if file.stat().st_mtime >= earliest for line in _read(file, 0)]
    if found and not has_times(found):
        raise UnplacedError(str(files[-1]))
    return lines_since(found, since)


def _end(files: Sequence[Path]) -> dict[str, Any]:
    try:
        *older, current = (file.stat() for file in files)
    except FileNotFoundError:
        return {"inode": 0, "size": 0, "older": []}
    return {"inode": current.st_ino, "size": current.st_size, "older": [file.st_ino for file in older]}


def _after(files: Sequence[Path], end: Mapping[str, Any]) -> list[tuple[Path, int]]:
    """Return what was written after a mark: files, and from which byte on.

    A log is rotated by another name for the file, or by a copy of it and a cut of the file itself.
    """
    inodes = [file.stat().st_ino for file in files]
    copies = [n for n, inode in enumerate(inodes[:-1]) if inode not in (end["inode"], *end["older"])]
    written_to = end["inode"] == inodes[-1]
    if written_to and copies:
        begin = copies[0]
    elif end["inode"] in inodes:
        begin = inodes.index(end["inode"])
    else:
        begin = next((n for n, inode in enumerate(inodes) if inode not in end["older"]), len(files))
        return [(file, 0) for file in files[begin:]]
    offset = end["size"] if _size(files[begin]) >= end["size"] else 0
    return [(files[begin], offset), *((file, 0) for file in files[begin + 1 :])]


def _open(file: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def _size(file: Path) -> int:
    if file.suffix != ".gz":
        return file.stat().st_size
    with _open(file) as opened:
        return len(opened.read())


def _read(file: Path, offset: int) -> list[str]:
    with _open(file) as opened:
        opened.seek(offset)
        return split_lines(opened.read().decode(errors="replace"))
