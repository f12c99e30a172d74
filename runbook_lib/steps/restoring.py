"""Tells how far a restore into a side database has come, and has it stand still or end as is wanted."""

import time
from contextlib import suppress

import psycopg

from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.errors import Declined
from runbook_lib.steps.steered import Steered

EVERY = 5.0  # seconds between two looks at how large the side database is
MEGABYTE = 1_000_000


class Restoring:
    """One restore under way: asked again and again by what waits for it."""

    def __init__(self, step: Steered, maintenance: Connection, live: str, side: str, what: str) -> None:
        self.step, self.maintenance, self.side, self.what = step, maintenance, side, what
        self._total = self._size(live)
        self._told = float("-inf")

    def stands_still(self) -> bool:
        """Whether it is to stand still now; tells so, and every few seconds how far it has come.

        Raises:
            Declined: It is to end.
        """
        if not self._is_paused() and time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            text = f"restoring {self.what}; the live database is as large as the total"
            self.step.progress(self._size(self.side), self._total, text, "MB")
        if paused := self._is_paused():
            self._told = float("-inf")
        return paused

    def _is_paused(self) -> bool:
        try:
            return self.step.is_paused()
        except Declined as error:
            raise Declined(
                "The restore was ended, as was asked for.",
                where=error.where,
                state=f"The live database was only read; {self.side} is not whole.",
                safe_next="Run the step again, which makes the side database anew; or undo it, which drops it.",
            ) from None

    def _size(self, name: str) -> int:
        with suppress(psycopg.Error):  # not to be told is no reason to end a restore
            query = "SELECT pg_database_size(oid) AS bytes FROM pg_database WHERE datname = %s"
            return int(one(self.maintenance, query, [name])["bytes"]) // MEGABYTE
        return 0
