"""What works in parts: told of as it goes on, and paused, gone on with or ended from elsewhere between two parts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from runbook_lib.context import Context
from runbook_lib.errors import Declined
from runbook_lib.parts import Parts, Wanted

BETWEEN_LOOKS = 0.5  # seconds while it is paused


class Steered:
    """A step as far as it is steered while it acts."""

    WORKS_IN_PARTS = False  # whether it can be steered between two of them

    def __init__(self, name: str, context: Context) -> None:
        self.name = name
        self.context = context
        self._is_steered = self._paused = False
        self._come, self._unit = (0, 0), "rows"

    def steer(self, wanted: Wanted) -> bool:
        """Have this step's parts, in whatever process, pause, go on or end; False where none are under way."""
        return self._parts.want(wanted)

    @property
    def _parts(self) -> Parts:
        return Parts(self.context.folder.path, self.name)

    @contextmanager
    def in_parts(self) -> Iterator[None]:
        """Can be steered while the block runs, which calls `part` between two parts. Changes the run folder."""
        with self._parts.under_way():
            self._is_steered = True
            try:
                yield
            finally:
                self._is_steered = self._paused = False

    def part(self, done: int, total: int, text: str = "", unit: str = "rows") -> None:
        """Journal how far the step has come, and wait while it is paused: the next part begins when this returns.

        Raises:
            Declined: It is to end here.
        """
        self.progress(done, total, text, unit)
        self.heed()

    def heed(self) -> None:
        """Wait while the step is paused.

        Raises:
            Declined: It is to end here.
        """
        while self.is_paused():
            time.sleep(BETWEEN_LOOKS)

    def is_paused(self) -> bool:
        """Whether the step is paused now; journals when that begins.

        Raises:
            Declined: It is to end here.
        """
        was, self._paused = self._paused, self.stands_still()
        if self._paused and not was:
            self.progress(*self._come, text="paused", unit=self._unit)
        return self._paused

    def stands_still(self) -> bool:
        """Whether the step is paused now; what cannot be steered now is not. Read-only.

        Raises:
            Declined: It is to end here.
        """
        wanted = self._parts.wanted() if self._is_steered else "go on"
        if wanted == "abort":
            raise Declined(
                "The step was ended, as was asked for.",
                where=self.name,
                state="The parts done so far stand; what it was at was rolled back.",
                safe_next="Run the step again to go on, or undo it.",
            )
        return wanted == "pause"

    def progress(self, done: int, total: int, text: str = "", unit: str = "rows") -> None:
        """Journal how far the step has come; a total of 0 is not known."""
        self._come, self._unit = (done, total), unit
        self.context.report("progress", step=self.name, done=done, total=total, text=text, unit=unit)
