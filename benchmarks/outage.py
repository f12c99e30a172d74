"""Measure what users see of a rollback: request the page and the API ten times a second, and take the time without them."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.request import ProxyHandler, Request, build_opener

EVERY = 0.1  # seconds between two looks
PATIENCE = 2.0  # seconds that an answer may take

_opener = build_opener(ProxyHandler({}))


@dataclass
class Seen:
    """The times of the requests, in seconds, and whether page and API both answered well."""

    looks: list[tuple[float, bool]] = field(default_factory=list)

    @property
    def outage(self) -> float:
        """Return the seconds from the last good answer before the first bad one to the first good one after the last."""
        bad = [at for at, well in self.looks if not well]
        if not bad:
            return 0.0
        before = max((at for at, well in self.looks if well and at < bad[0]), default=bad[0])
        after = min((at for at, well in self.looks if well and at > bad[-1]), default=self.looks[-1][0])
        return after - before


def answers(url: str, token: str = "") -> bool:
    """Return whether a GET is answered with 200 and a body. Read-only."""
    try:
        with _opener.open(Request(url, headers={"Authorization": f"Bearer {token}"}), timeout=PATIENCE) as response:  # noqa: S310  # of our own stack
            return response.status == 200 and bool(response.read())
    except OSError:
        return False


@contextmanager
def watched(urls: Sequence[str], token: str = "") -> Iterator[Seen]:
    """Request all `urls` ten times a second while the block runs; fail if they do not answer well before and after it."""
    seen, ended = Seen(), threading.Event()

    def look() -> bool:
        well = all(answers(url, token) for url in urls)
        seen.looks.append((time.monotonic(), well))
        return well

    def ask() -> None:
        while not ended.is_set():
            begun = time.monotonic()
            look()
            ended.wait(max(0.0, EVERY - (time.monotonic() - begun)))

    if not look():
        raise RuntimeError(f"{', '.join(urls)} do not answer well before anything is done")
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seen
    finally:
        ended.set()
        asking.join()
    if not look():
        raise RuntimeError(f"{', '.join(urls)} do not answer well afterwards")
