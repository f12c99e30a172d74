"""Pause, resume and abort: what is requested of the step that acts, through a file of the run folder, and how it hears."""

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import Literal, get_args

from runbook_lib.errors import Declined, PreconditionError
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder, private
from runbook_lib.journal.state import replay


def _silent(kind: str, /, **data: object) -> None:
    """Journal nothing."""


@dataclass(frozen=True)
class Reporter:
    """Journals what is reported, each thing as it happens; `of` gives the reporter of one step."""

    append: Callable[..., object] = _silent  # an event: its kind and its facts
    pending: Callable[[], Collection[str]] = tuple  # the cleanup that is pending now, by the journal
    step: str = ""

    def of(self, step: str) -> "Reporter":
        """Return the reporter of one step."""
        return replace(self, step=step)

    def progress(self, done: int, total: int, text: str = "", unit: str = "rows") -> None:
        """Journal how far the step has come; a total of 0 is not known."""
        self.append("progress", step=self.step, done=done, total=total, text=text, unit=unit)

    def waiting(self, blockers: Sequence[object]) -> None:
        """Journal who was in the way of a lock."""
        self.append("waiting", step=self.step, blockers=[str(blocker) for blocker in blockers])

    def open_cleanup(self, item: str, text: str) -> None:
        """Journal pending cleanup before there is any: its name within the run, and what is left to do."""
        self.append("owed", debt=item, step=self.step, text=text)

    def adopt(self, item: str, text: str, run: str) -> None:
        """Take over what another run left to be tidied up by the step, under a name that says whose it was."""
        text = f"{text} (left by run {run})"
        self.append("owed", debt=f"{item} of {run}", step=self.step, text=text, of=run, its=item)

    def close_cleanup(self, item: str) -> None:
        """Journal that cleanup is done."""
        self.append("paid", debt=item, step=self.step)


Request = Literal["resume", "pause", "abort"]  # of work in parts, before its next one
BETWEEN_LOOKS = 0.5  # seconds while it is paused


def request_control(folder: RunFolder, journal: Journal, request: Request, by: str) -> str:
    """Have the step that acts or waits now pause, resume or abort, before its next part or try; returns its title.

    Changes the run folder.

    Raises:
        PreconditionError: Nothing of the run acts now, or what acts does not work in batches.
    """
    events = [event for event in journal.events() if event.kind != "steered"]
    acting = [(step.name, step.title) for step in replay(events).steps.values() if step.status == "started"]
    if not acting and events[-1].kind == "waiting":  # for a lock, before it begins
        acting = [(events[-1].data["step"], events[-1].data["step"])]
    if not acting or not folder.held_by():
        raise PreconditionError(
            "No step of this run acts now.",
            where=str(folder.path),
            state="Nothing was changed.",
            safe_next=f"Look at `runbook status {folder.path}`; to resume the run: `runbook run {folder.path}`.",
        )
    name, title = acting[-1]
    if not ControlFile(folder.path, name).request(request):
        raise PreconditionError(
            f"“{title}” acts now, and is not at work in batches.",
            where=str(folder.path),
            state="Nothing was changed; the step continues.",
            safe_next="Wait for it, or try again once it reports its first batch.",
        )
    journal.append("steered", step=name, wanted=request, by=by)
    return title


class ControlFile:
    """The file in which one step's process, which holds it while it works in parts, takes requests."""

    def __init__(self, folder: Path, step: str) -> None:
        self.path = folder / f".parts-{step}"

    @contextmanager
    def opened(self, *, keeps: bool = False, leaves: bool = False) -> Iterator[None]:
        """Take requests while the block runs; those of an earlier try count no more. Changes the run folder.

        Args:
            keeps: What was requested in an earlier block of this try counts in this one.
            leaves: A later block of this try keeps what is requested in this one, unless this one fails.
        """
        left = False
        with open(self.path, "a+", encoding="utf-8", opener=private) as file:
            if not keeps:
                self._write("resume")  # before the lock: a request counts from the moment that it can be made
            flock(file, LOCK_EX)
            try:
                yield
                left = leaves
            finally:
                if not left:
                    self._requested.unlink(missing_ok=True)

    def request(self, request: Request) -> bool:
        """Have the work pause, resume or end before its next part; False where none is under way. Changes the run folder."""
        try:
            with open(self.path, encoding="utf-8") as file:
                flock(file, LOCK_SH | LOCK_NB)
        except BlockingIOError:
            self._write(request)
            return True
        except FileNotFoundError:
            pass
        return False

    def requested(self) -> Request:
        """Return what is requested now; what cannot be read means pause. Read-only."""
        try:
            text = self._requested.read_text(encoding="utf-8")
        except OSError:
            return "pause"
        return next((each for each in get_args(Request) if each == text), "pause")

    @property
    def _requested(self) -> Path:
        return self.path.with_name(f"{self.path.name}.wanted")

    def _write(self, request: Request) -> None:
        temporary = self._requested.with_name(f"{self._requested.name}.{os.getpid()}")
        with open(temporary, "w", encoding="utf-8", opener=private) as file:
            file.write(request)
        os.replace(temporary, self._requested)


class Control:
    """What one step is to do by the requests in its file; it works in parts, and looks between two of them."""

    def __init__(self, folder: Path, step: str, reporter: Callable[[], Reporter]) -> None:
        self.step = step
        self._file, self._reporter = ControlFile(folder, step), reporter
        self._listens = self._paused = False
        self._kept = False  # whether the file holds what was requested before the step began
        self._thread = 0  # which listens
        self._come, self._unit = (0, 0), "rows"

    @contextmanager
    def listening(self, *, before: bool = False) -> Iterator[None]:
        """Can be paused, resumed and aborted while the block runs. Changes the run folder.

        Args:
            before: The step has not begun yet: what is requested meanwhile counts once it listens again.
        """
        keeps, self._kept = self._kept, False
        with self._file.opened(keeps=keeps, leaves=before):
            self._listens, self._thread = True, threading.get_ident()
            try:
                yield
                self._kept = before
            finally:
                self._listens = self._paused = False

    def part(self, done: int, total: int, text: str = "", unit: str = "rows") -> None:
        """Journal how far the step has come, and wait while it is paused: the next part begins when this returns.

        Raises:
            Declined: It is to end here.
        """
        self.progress(done, total, text, unit)
        self.heed()

    def progress(self, done: int, total: int, text: str = "", unit: str = "rows") -> None:
        """Journal how far the step has come; a total of 0 is not known."""
        self._come, self._unit = (done, total), unit
        self._reporter().progress(done, total, text, unit)

    def waiting(self, blockers: Sequence[object]) -> None:
        """Journal who was in the way of a lock, between two tries to get it.

        Raises:
            Declined: The step is to end here; a thread that only watches does not hear of it.
        """
        self._reporter().waiting(blockers)
        if threading.get_ident() == self._thread:
            self.must_pause()

    def heed(self) -> None:
        """Wait while the step is paused.

        Raises:
            Declined: It is to end here.
        """
        while self.is_paused():
            time.sleep(BETWEEN_LOOKS)

    def is_paused(self) -> bool:
        """Check whether the step is paused now; journals when that begins.

        Raises:
            Declined: It is to end here.
        """
        was, self._paused = self._paused, self.must_pause()
        if self._paused and not was:
            self._reporter().progress(*self._come, text="paused", unit=self._unit)
        return self._paused

    def must_pause(self) -> bool:
        """Check whether a pause is requested now. Read-only.

        Raises:
            Declined: The step is to end here.
        """
        requested = self.requested()
        if requested == "abort":
            raise Declined(
                "The step was aborted on request.",
                where=self.step,
                state="The finished parts remain; the current one was rolled back.",
                safe_next="Run the step again to resume it, or undo it.",
            )
        return requested == "pause"

    def requested(self) -> Request:
        """Return what is requested now; of what takes no requests now, to run. Read-only."""
        return self._file.requested() if self._listens else "resume"
