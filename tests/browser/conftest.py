"""A Chromium, and a full rollback that is open in JupyterLab on a broken stack."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from runbook_lib.browser.chromium import launch_options
from runbook_lib.rehearsal.stack import stack
from runbook_lib.rehearsal.workspace import OUTPUTS, PLAN, TARGET, settled_in
from runbook_lib.run import Run, lifecycle

from ..support.browser_seat import Served, served

ROWS = 600
OLDER = pytest.param("7.3", marks=pytest.mark.older)


@pytest.fixture(scope="module", params=["7.4", OLDER], ids=lambda version: f"ipykernel-{version}")
def kernel(request: pytest.FixtureRequest) -> str:
    """The version of ipykernel that the notebooks run on: what an awaiting cell receives differs between them."""
    version: str = request.param
    return version


@pytest.fixture(scope="module")  # its loop runs in this thread, where later tests run theirs
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(**launch_options())
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def run(kernel: str) -> Iterator[Run]:
    """A full rollback, begun on a stack where no media reach any client."""
    with stack(ROWS, "all-media-missing") as up, settled_in(up.environment):
        opened = lifecycle.open_new(PLAN, TARGET, "full", operator="tester", reason="a test of it", outputs=OUTPUTS)
        yield opened
        opened.close_adapters()


@pytest.fixture(scope="module")
def lab(run: Run, kernel: str) -> Iterator[Served]:
    """That run, in JupyterLab, at the notebook of its type."""
    with served(str(run.folder.path), kernel=kernel) as opened:
        yield opened.at("03-full-rollback")
