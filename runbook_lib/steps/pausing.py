"""Pauses the target's poolers while a step holds strong locks, and resumes them whatever happens."""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.errors import AdapterError
from runbook_lib.journal.control import Reporter
from runbook_lib.postgres import Open
from runbook_lib.postgres.blockers import transactions
from runbook_lib.postgres.pooler import Pooler, StillInUse, pause, resume
from runbook_lib.postgres.pooler_guard import resumed_if_killed

PAUSED = "paused-pooler"  # the item of cleanup
TRIES, BETWEEN = 3, 1.0  # tries of PAUSE, and the seconds between them, in which clients continue
RESUMED_WITHIN, AGAIN = 10.0, 0.5  # seconds during which RESUME is tried, and between two tries


@dataclass
class Pausing:
    """PAUSE and RESUME of one step; RESUME is pending cleanup from just before PAUSE until it succeeds."""

    poolers: Sequence[Pooler]
    reporter: Reporter
    open: Open  # opens a connection to the target's database, to find blockers
    _within: bool = field(default=False, init=False)

    @contextmanager
    def __call__(self, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Pause the clients while the block runs; does nothing within another such block, or without poolers.

        Changes the poolers.

        Args:
            meanwhile: Called repeatedly until the clients are paused.

        Raises:
            StillInUse: Transactions in progress did not end within the limit, after several tries.
            PreconditionError: A pooler was already paused, or refuses PAUSE.
            AdapterError: A pooler cannot be reached.
        """
        if self._within or not self.poolers:
            yield
            return
        if PAUSED in self.reporter.pending():  # a RESUME failed
            self.resume()
        named = ", ".join(map(str, self.poolers))
        self.reporter.open_cleanup(PAUSED, f"clients of {named} wait; let them continue (RESUME)")
        with resumed_if_killed(self.poolers):
            begun = time.monotonic()
            try:
                self._paused(meanwhile)
                self._within, begun = True, time.monotonic()
                yield
            finally:
                self._within = False
                self.resume(begun)

    @property
    def would(self) -> str:
        """The preview's line on the cleanup."""
        return f"let clients of {', '.join(map(str, self.poolers))} continue (RESUME)"

    def clean_up(self, *, waived: bool) -> dict[str, Any]:
        """Resume the clients; if that was waived, try once and close the item in any case. Changes the poolers.

        Raises:
            AdapterError: A pooler cannot be reached, and nobody waived that.
        """
        if not waived:
            return {"resumed by others": self.resume()}
        if not (left := self.resume_once()):
            return {}
        self.reporter.close_cleanup(PAUSED)
        return {"not resumed": left}

    def resume_once(self) -> str:
        """Try once to resume the clients; returns what is left to do by hand, "" for nothing. Changes the poolers."""
        try:
            self.resume(once=True)
        except AdapterError:
            named = ", ".join(map(str, self.poolers))
            return f"clients of {named} may still wait (waived); resume by hand: {self.by_hand}"
        return ""

    @property
    def by_hand(self) -> str:
        """The commands that resume the clients."""
        return "; ".join(
            f"psql {shlex.quote(pooler.console)} -c 'RESUME \"{name}\"'"
            for pooler in self.poolers
            for name in pooler.databases
        )

    def resume(self, since: float | None = None, *, once: bool = False) -> list[str]:
        """Resume the clients; returns the poolers that somebody else had already resumed. Changes the poolers.

        Args:
            since: When the clients began to wait, on the monotonic clock.
            once: Whether to try only once.

        Raises:
            AdapterError: A pooler cannot be reached; it stays pending cleanup.
        """
        deadline = time.monotonic() + RESUMED_WITHIN
        while True:
            try:
                others = resume(self.poolers)
                break
            except AdapterError as error:
                if once or time.monotonic() > deadline:
                    raise self._not_resumed(error) from None
                time.sleep(AGAIN)
        seconds = round(time.monotonic() - since, 3) if since is not None else 0.0
        named = ", ".join(map(str, self.poolers))
        self.reporter.append("poolers-resumed", step=self.reporter.step, poolers=named, seconds=seconds, others=others)
        self.reporter.close_cleanup(PAUSED)
        return others

    def _paused(self, meanwhile: Callable[[], object]) -> None:
        for left in reversed(range(TRIES)):
            try:
                pause(self.poolers, meanwhile)
            except StillInUse as error:
                with self.open() as connection:
                    found = transactions(connection)
                resume(self.poolers)
                self.reporter.waiting(found)
                if not left:
                    listed = "; ".join(map(str, found)) or "no visible session"
                    raise StillInUse(
                        f"{error.what.rstrip('.')} in {TRIES} tries: {listed}", state=error.state, safe_next=error.safe_next
                    ) from None
                time.sleep(BETWEEN)
            else:
                return

    def _not_resumed(self, error: AdapterError) -> AdapterError:
        return AdapterError(
            f"The clients of PgBouncer wait, and RESUME failed: {error.what}",
            where=error.where,
            state="The step's change was committed or rolled back; the pooler's clients wait until RESUME.",
            safe_next=f"Resume by hand: {self.by_hand}. The next command of this run tries it first; if the "
            'console is gone permanently, --waive "pooler: REASON" continues without it.',
        )
