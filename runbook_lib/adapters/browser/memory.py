"""A browser that exists only in memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from runbook_lib.adapters.browser.protocol import Destination, Look, Visit, unseen
from runbook_lib.errors import AdapterError


class MemoryBrowser:
    """A browser whose visits a function of the URL gives; it raises OSError where the server does not answer."""

    def __init__(self, page: Callable[[str], Visit]) -> None:
        self._page = page
        self.keeps = False  # whether a profile goes on showing a page as it saw it first, as a stale cache does
        self._seen: dict[tuple[str, Path | None], Visit] = {}

    def warm(self) -> None:
        """Nothing: it is always there."""

    def visit(self, pages: Sequence[Destination], look: Look, profile: Path | None = None) -> list[Visit | AdapterError]:
        """See `Browser.visit`; see `keeps` for who returns."""
        return [self._visited(page, profile) for page in pages]

    def _visited(self, page: Destination, profile: Path | None) -> Visit | AdapterError:
        try:
            now = self._page(page.url)
        except OSError as error:
            return unseen(page.url, str(error), "Make sure that the service runs, then look again.")
        if page.returning:
            if profile is not None:
                profile.mkdir(parents=True, exist_ok=True)
            first = self._seen.setdefault((page.url, profile), now)
            now = first if self.keeps else now
        return now if page.pictured else replace(now, screenshot=b"")
