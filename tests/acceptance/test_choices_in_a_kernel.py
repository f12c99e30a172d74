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
        self.until(lambda: any(state.get("_model_name") == model for state in self.models.values()))
        return next(key for key, state in self.models.items() if state.get("_model_name") == model)

    def tell(self, widget: str, data: dict[str, Any]) -> None:
        message = self.client.session.msg("comm_msg", {"comm_id": widget, "data": data})
        self.client.shell_channel.send(message)

    def choose(self, widget: str, **state: Any) -> None:
        self.tell(widget, {"method": "update", "state": state, "buffer_paths": []})

    def click(self) -> None:
        self.tell(self.widget("ButtonModel"), {"method": "custom", "content": {"event": "click"}})

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
    dropdown = cell.widget("DropdownModel")
    assert cell.models[dropdown]["index"] == 0
    cell.click()
    cell.choose(dropdown, index=2)
    cell.click()
    cell.until(lambda: cell.idle)

    assert "TYPE = full (operator)" in cell.shown
    assert "('full', 'operator')" in cell.shown


def test_a_confirmation_takes_only_the_answer_asked_for(client: BlockingKernelClient) -> None:
    cell = Cell(
        client,
        "from runbook_lib.widgets import confirmation\nawait confirmation('Go on?', 'production-eu', '')",
    )
    text = cell.widget("TextModel")
    cell.choose(text, value="yes")
    cell.click()
    cell.choose(text, value="production-eu")
    cell.click()
    cell.until(lambda: cell.idle)

    assert "Go on? production-eu (operator)" in cell.shown
    assert "'operator'" in cell.shown
