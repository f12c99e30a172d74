"""One run per checkout: a lock held while a step acts, and a record next to it that names the run.

It needs no database, so runs exclude each other on this host even if the database is down. The lock is the system's
(flock) and ends with its process; the record outlasts it, as the row of the database's lease does.
"""

import getpass
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.lease import LEFT_BEHIND, Holder
from runbook_lib.system.temporary import has_ended

LOCK, RECORD = "lock", "lease.json"


@dataclass(frozen=True)
class OnHost(Holder):
    """A holder on this host, whose run folder is known."""

    folder: str = ""


class HostLease:
    """A run's lock on the checkouts of a target; several processes of one run share it, one at a time."""

    def __init__(self, directories: Sequence[Path], folder: Path, operator: str) -> None:
        """`directories`: one in the git directory of each checkout; created on first use."""
        self.directories = list(dict.fromkeys(directories))
        self.folder = folder
        self.operator = operator or getpass.getuser()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the checkouts while the block runs. Changes the lease's own files only.

        Raises:
            PreconditionError: Another run acts there now, was abandoned or waits, or the files cannot be written.
        """
        with self._locked():
            for directory in self.directories:
                if (found := _read(directory)) and self._is_of_another(found):
                    raise self._left_behind(found, directory)
            for directory in self.directories:
                self._write(directory)
            yield

    def take_over(self, journal: Callable[[OnHost, int], object]) -> None:
        """Take the checkouts over from an abandoned run; `journal` gets each such run, and the new epoch.

        Does nothing if no other run has them. Changes the lease's own files only.

        Raises:
            PreconditionError: That run acts now.
        """
        with self._locked():
            for directory in self.directories:
                if (found := _read(directory)) and self._is_of_another(found):
                    journal(found, found.epoch + 1)
                    self._write(directory)

    def release(self) -> bool:
        """Release the checkouts that this run has; returns whether it had any. Changes the lease's own files only."""
        released = False
        for directory in self.directories:
            if (found := _read(directory)) and found.run == self.folder.name and not found.released_at:
                _replace(directory, OnHost(**{**vars(found), "released_at": datetime.now(UTC)}))
                released = True
        return released

    def end(self) -> bool:
        """Release the checkouts if no process acts there; returns whether this run had any. Changes the lease only.

        Raises:
            PreconditionError: A process acts there now.
        """
        with self._locked():
            return self.release()

    def in_the_way(self) -> str:
        """Return what would block this run now, "" for nothing. Read-only."""
        for directory in self.directories:
            acting = _is_locked(directory)
            if (found := _read(directory)) and self._is_of_another(found):
                return f"{'acting now' if acting else LEFT_BEHIND}: {found}{'' if acting else _alive(found)}"
            if acting:
                return f"acting now: {found or 'a process that has written no record yet'}"
        return ""

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with ExitStack() as held:
            for directory in self.directories:
                try:
                    _make(directory)
                    file = held.enter_context(open(directory / LOCK, "a+b"))
                    flock(file, LOCK_EX | LOCK_NB)
                except BlockingIOError:
                    raise PreconditionError(
                        f"Another process acts on this checkout now: {_read(directory) or 'it has written no record yet'}.",
                        where=str(directory.parent),
                        state="This process changed nothing.",
                        safe_next="Wait for it, or end it by its pid; then run the cell again.",
                    ) from None
                except OSError as error:
                    raise PreconditionError(
                        f"The lock that keeps other runs out of this checkout cannot be made: {error.strerror}.",
                        where=str(directory),
                        state="This process changed nothing.",
                        safe_next="Make that directory writable for whoever runs the runbook.",
                    ) from None
            yield

    def _write(self, directory: Path) -> None:
        """Record this run as the holder, with a new epoch."""
        before, now = _read(directory), datetime.now(UTC)
        goes_on = before is not None and before.run == self.folder.name and not before.released_at
        me = OnHost(
            run=self.folder.name,
            operator=self.operator,
            host=socket.gethostname(),
            pid=os.getpid(),
            taken_at=before.taken_at if before and goes_on else now,
            epoch=before.epoch + 1 if before else 1,
            released_at=None,
            folder=str(self.folder.resolve()),
        )
        _replace(directory, me)

    def _is_of_another(self, found: OnHost) -> bool:
        return found.run != self.folder.name and not found.released_at

    def _left_behind(self, found: OnHost, directory: Path) -> PreconditionError:
        return PreconditionError(
            f"Another run was left behind on this target, or waits: {found}{_alive(found)}.",
            where=str(directory.parent),
            state="Nothing was begun. That run may have left the target half-way: look at its journal.",
            safe_next=f"Ask its operator, and resume it in its folder ({found.folder}). If it is abandoned, take the "
            'target over: runbook run RUN --take-over "REASON", or in the notebook: await take_over(run, "REASON").',
        )


def _read(directory: Path) -> OnHost | None:
    """Read the record in a directory; None if no run has ever held it. Read-only.

    Raises:
        PreconditionError: The record cannot be read.
    """
    try:
        found = json.loads((directory / RECORD).read_text(encoding="utf-8"))
        times = {name: found[name] and datetime.fromisoformat(found[name]) for name in ("taken_at", "released_at")}
        return OnHost(**{**found, **times})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PreconditionError(
            f"Which run has this checkout is unknown: {directory / RECORD} cannot be read ({error}).",
            where=str(directory.parent),
            state="Nothing was begun.",
            safe_next="Ask who else works on this target. If nobody does, remove that file.",
        ) from None


def _make(directory: Path) -> None:
    """Create the directory and its lock, writable for everyone who may write to the repository. Changes these only."""
    mode = directory.parent.stat().st_mode
    for path, make in ((directory, directory.mkdir), (directory / LOCK, (directory / LOCK).touch)):
        if not path.exists():
            make(exist_ok=True)
            path.chmod(mode & (0o777 if path.is_dir() else 0o666))


def _replace(directory: Path, record: OnHost) -> None:
    temporary = directory / f".{RECORD}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(asdict(record), file, default=str)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), directory.stat().st_mode & 0o666)
    os.replace(temporary, directory / RECORD)


def _is_locked(directory: Path) -> bool:
    try:
        with open(directory / LOCK, "rb") as file:
            flock(file, LOCK_SH | LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _alive(found: OnHost) -> str:
    """Describe whether the recorded process still exists, if known; another process may have its pid now."""
    here = found.host == socket.gethostname()
    return " (that process has ended)" if here and has_ended(found.pid) else ""
