"""A browser that exists only in memory."""

from collections.abc import Callable
from pathlib import Path

from runbook_lib.adapters.browser.protocol import Visit, unseen


class MemoryBrowser:
    """A browser whose visits a function of the URL gives; it raises OSError where the server does not answer."""

    def __init__(self, page: Callable[[str], Visit]) -> None:
        self._page = page
        self.keeps = False  # whether a profile goes on showing a page as it saw it first, as a stale cache does
        self._seen: dict[tuple[str, Path], Visit] = {}

    def warm(self) -> None:
        """Nothing: it is always there."""

    def visit(
        self, url: str, *, ready: str, items: str, media: str, timeout: float = 20, profile: Path | None = None
    ) -> Visit:
        """See `Browser.visit`; see `keeps` for those with a profile."""
        try:
            return self._page(url) if profile is None else self._returning(url, profile)
        except OSError as error:
            raise unseen(url, str(error), "Make sure that the service runs, then look again.") from None

    def _returning(self, url: str, profile: Path) -> Visit:
        profile.mkdir(parents=True, exist_ok=True)
        now = self._page(url)
        first = self._seen.setdefault((url, profile), now)
        return first if self.keeps else now
