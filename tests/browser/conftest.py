"""A Chromium for the tests, and JupyterLab on a stack."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from runbook_lib.adapters.browser.chromium import launch_options


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(**launch_options())
        yield opened
        opened.close()
