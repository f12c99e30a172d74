"""Looking at a page as a user sees it."""

from runbook_lib.adapters.browser.chromium import ChromiumBrowser, of_this_process
from runbook_lib.adapters.browser.memory import MemoryBrowser
from runbook_lib.adapters.browser.protocol import Browser, ConsoleError, Destination, Look, Media, Visit

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
