"""A choice and a confirmation in a real kernel with a front end: shown as widgets, awaited, and left as one line."""

from collections.abc import Iterator

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from ..support.kernels import Cell, kernel


@pytest.fixture
def client() -> Iterator[BlockingKernelClient]:
    with kernel() as (_, client):
        yield client


def test_a_choice_is_awaited_and_leaves_one_line(client: BlockingKernelClient) -> None:
    cell = Cell(
        client,
        "from runbook_lib.ui.widgets import choice\n(await choice('TYPE', {'frontend': 'Quick', 'full': 'Full'}, ''))",
    )
    cell.widget("ButtonModel")
    cell.until(lambda: len(cell.of("ButtonModel")) == 2)
    cell.click(cell.of("ButtonModel")[1])
    cell.until(lambda: cell.idle)

    assert "TYPE = full (operator)" in cell.shown
    assert "('full', 'operator')" in cell.shown


@pytest.mark.parametrize(
    ("typed", "told"),
    [("production-eu", "'operator'"), ("yes", "Declined: Go on? needs 'production-eu' typed, and 'yes' was.")],
)
def test_a_confirmation_takes_only_the_answer_asked_for(client: BlockingKernelClient, typed: str, told: str) -> None:
    cell = Cell(
        client,
        "from runbook_lib.ui.widgets import confirmation\nawait confirmation('Go on?', 'production-eu', '')",
    )
    cell.choose(cell.widget("TextModel"), value=typed)
    cell.click(cell.widget("ButtonModel"))
    cell.until(lambda: cell.idle)

    assert f"Go on? {typed} (operator)" in cell.shown
    assert any(text.startswith(told) for text in cell.shown)
