"""What is kept of a run: the append-only journal, its events, the folder, and the state that a replay gives.

A journal is one JSON object a line, fsynced, each holding the hash of the one before.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path
from typing import Any

from runbook_lib.errors import JournalError
from runbook_lib.journal import elapsed
from runbook_lib.journal.event import Event, require_declared
from runbook_lib.journal.folder import private
from runbook_lib.redaction import redact_values

GENESIS = "0" * 64
VERSION = 2  # of journals, named in the first event; those of version 1 named none and held no seal


class Journal:
    """A journal file; several processes and threads may append to it, each entry is on disk before `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.appended: Callable[[], None] = lambda: None  # is called after each entry of this process
        self._lock = threading.RLock()
        self._events: list[Event] = []
        self._good = b""

    def append(self, kind: str, /, **data: Any) -> Event:
        """Add an event, redacted, and wait until it is on disk; a change of the clock is noted before it.

        Raises:
            TypeError: No such event is declared.
            JournalError: The chain is broken, or the disk does not take it.
        """
        return self.append_all([(kind, data)])[0]

    def append_all(self, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Event]:
        """Add several events in one go, all of them or none; see `append`."""
        for kind, data in entries:
            require_declared(kind, dict(data))
        try:
            with self._lock, self._locked() as descriptor:
                events, whole = self._read()
                if whole < os.fstat(descriptor).st_size:  # a crash left half a line behind
                    os.ftruncate(descriptor, whole)
                if changed := elapsed.change(events):
                    events.append(_linked(events[-1], elapsed.CHANGED, changed))
                for kind, data in entries:
                    last = events[-1] if events else None
                    events.append(_linked(last, kind, redact_values(json.loads(json.dumps(data, default=str)))))
                added = events[len(self._events) :]
                _add(descriptor, whole, "".join(f"{line_of(event)}\n" for event in added).encode())
            self.appended()
            return added[-len(entries) :]
        except OSError as error:
            raise JournalError(
                f"The journal cannot be written: {error}.",
                where=str(self.path),
                state="The last event is not recorded; nothing was begun after it.",
                safe_next="Make room or correct the rights there, then run the same command again; it finds what is done.",
            ) from None

    def events(self) -> list[Event]:
        """Return every event in order; half a line that a crash left at the end is passed over. Read-only.

        Raises:
            JournalError: A line was changed, taken out or put in.
        """
        with self._lock:
            return self._read()[0] if self.path.exists() else []

    def _read(self) -> tuple[list[Event], int]:
        """Return the events and the length of their whole lines; lines known to be good are not checked again."""
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole.startswith(self._good):
            self._events, self._good = [], b""
        events = list(self._events)
        for line in whole[len(self._good) :].splitlines():
            try:
                event = Event(**json.loads(line))
                linked = _linked(events[-1] if events else None, event.kind, event.data, at=event.at)
            except (ValueError, TypeError):
                raise self._broken(len(events) + 1) from None
            if linked != event:
                raise self._broken(len(events) + 1)
            events.append(event)
        self._events, self._good = events, whole
        return list(events), len(whole)

    def _broken(self, line: int) -> JournalError:
        return JournalError(
            f"The journal's chain is broken at line {line}: that line or the one before is not what was written.",
            where=str(self.path),
            state="What the run did cannot be taken from this journal.",
            safe_next="Keep the folder as it is for the reviewer; look at the live state with `runbook plan`.",
        )

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = private(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            flock(descriptor, LOCK_EX)
            yield descriptor
        finally:
            flock(descriptor, LOCK_UN)
            os.close(descriptor)


def _add(descriptor: int, length: int, lines: bytes) -> None:
    """Append whole lines to a file of that length and wait until they are on disk; all of them, or none."""
    try:
        left = lines
        while left:
            left = left[os.write(descriptor, left) :]  # a disk that fills up takes a part
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, length)
        raise


def _linked(last: Event | None, kind: str, data: dict[str, Any], at: str | None = None) -> Event:
    body: dict[str, Any] = {
        "seq": last.seq + 1 if last else 1,
        "at": at or datetime.now(UTC).isoformat(timespec="milliseconds"),
        "kind": kind,
        "data": data,
        "previous": last.hash if last else GENESIS,
    }
    digest = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return Event(**body, hash=digest)


def line_of(event: Event) -> str:
    """Return an event as its journal line, without the line end."""
    return json.dumps(
        {each.name: getattr(event, each.name) for each in fields(Event)}, separators=(",", ":"), ensure_ascii=False
    )
