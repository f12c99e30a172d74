"""Reads an archive of WAL: which segments it has, and where a transaction committed."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from runbook_lib.errors import AdapterError, PreconditionError

NOTHING = "Nothing was started; the target was only read."
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_HEADER = struct.Struct("<HHIQIIQII")  # a segment's: magic, …, the cluster's identifier, the size of segments
_COMMIT = re.compile(
    r"tx:\s*(?P<own>\d+), lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+), .*"
    r"desc: COMMIT(?:_PREPARED (?P<prepared>\d+):)? (?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*) UTC"
)
_SUBTRANSACTIONS = re.compile(r"; subxacts: ([\d ]+)")
_OLDEST_RUNNING = re.compile(r"desc: CHECKPOINT_\w+ .*oldest running xid (\d+)")


def number(lsn: str) -> int:
    """Convert an LSN to a number of bytes. Pure."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def precedes(first: int, second: int) -> bool:
    """Report whether one transaction id is older than another, with PostgreSQL's wraparound. Pure."""
    return 0 < (second - first) & 0xFFFFFFFF < 1 << 31


@dataclass(frozen=True)
class Commit:
    """The WAL record of a transaction's commit."""

    xid: int
    lsn: str
    time: datetime
    of: frozenset[int]  # the transaction and its subtransactions


@dataclass(frozen=True)
class Archive:
    """The archived WAL of one timeline, and the programs that read it."""

    folder: Path
    timeline: int
    programs: Path

    @cached_property
    def segments(self) -> dict[int, str]:
        """List the existing segments by their number."""
        names = sorted(each.name for each in self.folder.iterdir() if _SEGMENT.fullmatch(each.name))
        return {self._number(name): name for name in names if int(name[:8], 16) == self.timeline}

    @cached_property
    def system(self) -> str:
        """Return the identifier of the cluster that wrote it."""
        return str(self._header[6])

    @property
    def segment_size(self) -> int:
        """Return the bytes of a segment."""
        return int(self._header[7])

    @cached_property
    def _header(self) -> tuple[int, ...]:
        for path in sorted(self.folder.iterdir()):
            if _SEGMENT.fullmatch(path.name):
                with path.open("rb") as file:
                    read = file.read(_HEADER.size)
                if len(read) == _HEADER.size:
                    return _HEADER.unpack(read)
        raise PreconditionError(
            f"Missing WAL: {self.folder} holds no segment.",
            where="target, key before.wal",
            state=NOTHING,
            safe_next="Name the folder to which archive_command writes its segments as they are, not compressed.",
        )

    def holds(self, lsn: str) -> bool:
        """Report whether the segment of an LSN exists. Read-only."""
        return number(lsn) // self.segment_size in self.segments

    def missing_since(self, lsn: str) -> list[str]:
        """List the missing segments, from that of an LSN to the last existing one. Read-only."""
        first = number(lsn) // self.segment_size
        last = max(self.segments, default=first)
        return [self._name(each) for each in range(first, max(first, last) + 1) if each not in self.segments]

    def oldest_running(self, checkpoint: str) -> int:
        """Return the oldest transaction that ran at a checkpoint; older ones had ended. Read-only.

        Raises:
            AdapterError: The checkpoint's record cannot be read.
        """
        for line in self._dump(f"--start={checkpoint}", "--limit=1"):
            if found := _OLDEST_RUNNING.search(line):
                return int(found[1])
        raise AdapterError(
            f"The checkpoint {checkpoint} of the base backup cannot be read from {self.folder}.",
            where="target, key before.wal",
            state=NOTHING,
            safe_next="Check that the archive is complete and of the same cluster.",
        )

    def commits(self, start: str) -> Iterator[Commit]:
        """Yield the commits in order, from an LSN to the first missing segment. Read-only."""
        there = first = number(start) // self.segment_size
        while there in self.segments:
            there += 1
        if there == first:
            return
        end = there * self.segment_size
        limits = [f"--start={start}", f"--end={end >> 32:X}/{end & 0xFFFFFFFF:X}"]
        for line in self._dump(*limits, "--rmgr=Transaction"):
            if found := _COMMIT.search(line):
                xid = int(found["prepared"] or found["own"])
                within = _SUBTRANSACTIONS.search(line)
                of = frozenset({xid, *map(int, within[1].split() if within else ())})
                yield Commit(xid, found["lsn"], datetime.fromisoformat(found["time"]).replace(tzinfo=UTC), of)

    def commit_of(self, start: str, is_expected: Callable[[Commit], bool]) -> Commit | None:
        """Return the first expected commit since an LSN; None if the archive has none. Read-only."""
        return next(filter(is_expected, self.commits(start)), None)

    def _dump(self, *options: str) -> Iterator[str]:
        command = [str(self.programs / "pg_waldump"), f"--path={self.folder}", f"--timeline={self.timeline}", *options]
        environment = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as reading:
            try:
                yield from reading.stdout or ()
            finally:
                reading.kill()

    def _number(self, name: str) -> int:
        return int(name[8:16], 16) * ((1 << 32) // self.segment_size) + int(name[16:], 16)

    def _name(self, segment: int) -> str:
        each = (1 << 32) // self.segment_size
        return f"{self.timeline:08X}{segment // each:08X}{segment % each:08X}"


def written_by(xids: Collection[int]) -> Callable[[Commit], bool]:
    """Return a test whether a commit is of one of some transactions. Pure."""
    return lambda commit: not commit.of.isdisjoint(xids)


def not_before(moment: datetime) -> Callable[[Commit], bool]:
    """Return a test whether a commit is at a moment or later. Pure."""
    return lambda commit: commit.time >= moment
