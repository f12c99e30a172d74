"""A browser that exists only in memory."""

from collections.abc import Callable

from runbook_lib.adapters.browser.protocol import Visit, unseen


class MemoryBrowser:
    """A browser whose visits a function of the URL gives; it raises OSError where the server does not answer."""

    def __init__(self, page: Callable[[str], Visit]) -> None:
        self._page = page

    def warm(self) -> None:
        """Nothing: it is always there."""

    def visit(self, url: str, *, ready: str, items: str, media: str, timeout: float = 20) -> Visit:
        """See `Browser.visit`."""
        try:
            return self._page(url)
        except OSError as error:
            raise unseen(url, str(error), "Make sure that the service runs, then look again.") from None
