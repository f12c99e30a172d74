"""A choice and a confirmation in a real kernel with a front end: shown as widgets, awaited, and left as one line."""

from collections.abc import Iterator
from queue import Empty
from time import monotonic
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

SECONDS = 30


@pytest.fixture
def client() -> Iterator[BlockingKernelClient]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=SECONDS)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


class Cell:
    """A cell under way, and what its front end has been told."""

    def __init__(self, client: BlockingKernelClient, code: str) -> None:
        self.client = client
        self.models: dict[str, dict[str, Any]] = {}  # widget id -> its state
        self.shown: list[str] = []
        self.idle = False
        self.id = client.execute(code, allow_stdin=True)

    def until(self, condition: Any) -> None:
        deadline = monotonic() + SECONDS
        while not condition():
            assert monotonic() < deadline, (self.models, self.shown)
            try:
                self._take(self.client.get_iopub_msg(timeout=1))
            except Empty:
                continue

    def widget(self, model: str) -> str:
        self.until(lambda: self.of(model))
        return self.of(model)[0]

    def tell(self, widget: str, data: dict[str, Any]) -> None:
        message = self.client.session.msg("comm_msg", {"comm_id": widget, "data": data})
        self.client.shell_channel.send(message)

    def choose(self, widget: str, **state: Any) -> None:
        self.tell(widget, {"method": "update", "state": state, "buffer_paths": []})

    def of(self, model: str) -> list[str]:
        return [key for key, state in self.models.items() if state.get("_model_name") == model]

    def click(self, button: str) -> None:
        self.tell(button, {"method": "custom", "content": {"event": "click"}})

    def _take(self, message: dict[str, Any]) -> None:
        content, kind = message["content"], message["msg_type"]
        if kind == "comm_open":
            self.models[content["comm_id"]] = content["data"]["state"]
        elif kind in ("display_data", "update_display_data", "execute_result"):
            self.shown.append(content["data"]["text/plain"])
        elif kind == "error":
            self.shown.append(f"{content['ename']}: {content['evalue']}")
        elif kind == "status" and content["execution_state"] == "idle" and message["parent_header"]["msg_id"] == self.id:
            self.idle = True


def test_a_choice_is_awaited_and_leaves_one_line(client: BlockingKernelClient) -> None:
    cell = Cell(
        client,
        "from runbook_lib.widgets import choice\n(await choice('TYPE', {'frontend': 'Quick', 'full': 'Full'}, ''))",
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
        "from runbook_lib.widgets import confirmation\nawait confirmation('Go on?', 'production-eu', '')",
    )
    cell.choose(cell.widget("TextModel"), value=typed)
    cell.click(cell.widget("ButtonModel"))
    cell.until(lambda: cell.idle)

    assert f"Go on? {typed} (operator)" in cell.shown
    assert any(text.startswith(told) for text in cell.shown)
