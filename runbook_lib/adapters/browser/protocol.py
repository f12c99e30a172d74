"""What a visit to a page shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class ConsoleError:
    """An error of a page or one of its requests, and the URL that it concerns."""

    text: str
    url: str


@dataclass(frozen=True)
class Visit:
    """A page as it stood at the end of a visit; `ready_state` is None when it never got ready."""

    url: str
    ready_state: str | None
    text: str
    items: int
    media: list[Media]
    errors: list[ConsoleError]
    screenshot: bytes = field(repr=False)  # PNG of the full page
    assets: Mapping[str, str] = field(default_factory=dict, repr=False)  # URL of a script or style sheet -> its SHA-256


class Browser(Protocol):
    """Visits pages, each time as somebody who was never there before, or with the browser profile of one who was."""

    def warm(self) -> None:
        """Begin to start, so that the first visit need not wait."""

    def visit(
        self, url: str, *, ready: str, items: str, media: str, timeout: float = 20, profile: Path | None = None
    ) -> Visit:
        """Open `url`, wait up to `timeout` seconds for `ready` and for `media`, and tell what is there. Read-only.

        `ready`, `items` and `media` are CSS selectors. A page that does not get ready is told, not raised. With the folder
        of a `profile`, the browser has what earlier visits with it left there: its cache and its service workers.

        Raises:
            AdapterError: The server does not answer, or the browser does not work: what a user sees is unknown.
        """


def unseen(url: str, reason: str, safe_next: str) -> AdapterError:
    """The error of a page that could not be looked at. Read-only."""
    return AdapterError(
        redact(f"{url} could not be looked at: {reason}."),
        state="Nothing was changed; what a user sees there is unknown.",
        safe_next=safe_next,
    )
