"""Has the clients of the target's poolers wait while a step holds strong locks, and lets them go on whatever happens."""

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
TRIES, BETWEEN = 3, 1.0  # how often PAUSE is tried, and the seconds between, in which clients go on
RESUMED_WITHIN, AGAIN = 10.0, 0.5  # seconds for which RESUME is tried, and between two tries


@dataclass
class Pausing:
    """PAUSE and RESUME of one step: RESUME is pending cleanup from before PAUSE until it is done."""

    poolers: Sequence[Pooler]
    reporter: Reporter
    open: Open  # a connection to the target's database, which shows who is in the way
    _within: bool = field(default=False, init=False)

    @contextmanager
    def __call__(self, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Have the clients wait while the block runs; within another such block, and without poolers, nothing is done.

        Changes the poolers.

        Args:
            meanwhile: Is called again and again until they wait.

        Raises:
            StillInUse: Transactions in progress did not end within the limit, in several tries.
            PreconditionError: A pooler was paused before, or refuses it.
            AdapterError: A pooler cannot be reached, or not any more.
        """
        if self._within or not self.poolers:
            yield
            return
        if PAUSED in self.reporter.pending():  # of a RESUME that failed
            self.resume()
        named = ", ".join(map(str, self.poolers))
        self.reporter.open_cleanup(PAUSED, f"clients of {named} wait; let them go on (RESUME)")
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
        """What the cleanup does."""
        return f"let clients of {', '.join(map(str, self.poolers))} go on"

    def clean_up(self, *, waived: bool) -> dict[str, Any]:
        """Let the clients go on; where that was waived, it is tried once, and closed in any case. Changes the poolers.

        Raises:
            AdapterError: A pooler cannot be reached, which nobody waived.
        """
        if not waived:
            return {"resumed by others": self.resume()}
        if not (left := self.resume_once()):
            return {}
        self.reporter.close_cleanup(PAUSED)
        return {"not resumed": left}

    def resume_once(self) -> str:
        """Let the clients go on, tried once; returns what is left to do by hand, "" for nothing. Changes the poolers."""
        try:
            self.resume(once=True)
        except AdapterError:
            named = ", ".join(map(str, self.poolers))
            return f"clients of {named} may still wait, which was waived; resume by hand: {self.by_hand}"
        return ""

    @property
    def by_hand(self) -> str:
        """The commands that let the clients go on."""
        return "; ".join(
            f"psql {shlex.quote(pooler.console)} -c 'RESUME \"{name}\"'"
            for pooler in self.poolers
            for name in pooler.databases
        )

    def resume(self, since: float | None = None, *, once: bool = False) -> list[str]:
        """Let the clients go on; returns whom somebody else had let go on before. Changes the poolers.

        Args:
            since: When they began to wait, by the monotonic clock.
            once: Whether it is tried once only.

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
                    listed = "; ".join(map(str, found)) or "nobody who could be seen"
                    raise StillInUse(
                        f"{error.what.rstrip('.')} in {TRIES} tries: {listed}", state=error.state, safe_next=error.safe_next
                    ) from None
                time.sleep(BETWEEN)
            else:
                return

    def _not_resumed(self, error: AdapterError) -> AdapterError:
        return AdapterError(
            f"The clients of PgBouncer wait, and could not be let go on: {error.what}",
            where=error.where,
            state="What the step did to the database stands, or was rolled back; its clients wait until RESUME.",
            safe_next=f"Resume by hand: {self.by_hand}. The next command of this run tries it first of all; where the "
            'console is gone for good, --waive "pooler: REASON" goes on without.',
        )
