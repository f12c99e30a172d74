"""Looking at a page as a user sees it: what a visit shows, and a browser that exists only in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from runbook_lib.errors import AdapterError
from runbook_lib.redaction import redact


@dataclass(frozen=True)
class Media:
    """A picture or video, and whether anything of it can be seen; the width is in pixels of its own."""

    url: str
    rendered: bool
    natural_width: int
    others: tuple[str, ...] = ()  # the addresses of the same in other sizes and formats, as of srcset and picture

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its address, and the others."""
        return (self.url, *self.others)


@dataclass(frozen=True)
class ConsoleError:
    """An error of a page or one of its requests, and the URL that it concerns."""

    text: str
    url: str


@dataclass(frozen=True)
class Look:
    """What is looked for on a page: CSS selectors of the sign that it is ready, of its items and of its media."""

    ready: str
    items: str
    media: str
    timeout: float = 20  # seconds to wait for the page to get ready and for its media


@dataclass(frozen=True)
class Visit:
    """A page as it stood at the end of a visit; `ready_state` is None when it never got ready."""

    url: str
    ready_state: str | None
    text: str
    items: int
    media: list[Media]
    errors: list[ConsoleError]
    screenshot: bytes = field(repr=False)  # PNG of the full page; empty where none was wanted
    assets: Mapping[str, str] = field(default_factory=dict, repr=False)  # URL of a script or style sheet -> its SHA-256
    texts: Sequence[str] = ()  # of its items, in order


@dataclass(frozen=True)
class Destination:
    """A page to visit, as a new visitor or as one who was there before, whose browser has kept what it was given."""

    url: str
    returning: bool = False
    pictured: bool = True  # else without a screenshot


class Browser(Protocol):
    """Visits pages as users do."""

    def warm(self, profile: Path | None = None) -> None:
        """Begin to start, so that the first visit need not wait; with a `profile`, for the next visit of who returns."""

    def visit(self, pages: Sequence[Destination], look: Look, profile: Path | None = None) -> list[Visit | AdapterError]:
        """Open all pages at once; return what each shows, or why it could not be opened. Read-only.

        A page that does not get ready is reported so. Each new visitor has a browser that knows nothing; who returns has
        what earlier such visits left in the folder of the `profile`: its cache and its service workers.
        """


def unseen(url: str, reason: str, safe_next: str) -> AdapterError:
    """Return the error of a page that could not be looked at. Read-only."""
    return AdapterError(
        redact(f"{url} could not be looked at: {reason}."),
        state="Nothing was changed; what a user sees there is unknown.",
        safe_next=safe_next,
    )


class MemoryBrowser:
    """A browser whose visits a function of the URL gives; it raises OSError where the server does not answer."""

    def __init__(self, page: Callable[[str], Visit]) -> None:
        self._page = page
        self.keeps = False  # whether a profile keeps showing a page as it saw it first, as a stale cache does
        self._seen: dict[tuple[str, Path | None], Visit] = {}

    def warm(self, profile: Path | None = None) -> None:
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
