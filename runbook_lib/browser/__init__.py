"""Looking at a page as a user sees it."""

from runbook_lib.browser.chromium import ChromiumBrowser, of_this_process
from runbook_lib.browser.protocol import Browser, ConsoleError, Destination, Look, Media, MemoryBrowser, Visit

__all__ = [
    "Browser",
    "ChromiumBrowser",
    "ConsoleError",
    "Destination",
    "Look",
    "Media",
    "MemoryBrowser",
    "Visit",
    "of_this_process",
]
