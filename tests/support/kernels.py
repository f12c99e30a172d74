"""A real kernel with a front end of the test's own: what it shows, and clicks on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from time import monotonic
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

SECONDS = 30


@contextmanager
def kernel() -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    """A kernel and a client of it."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=SECONDS)
        yield manager, client
    finally:
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

    def button(self, label: str) -> str:
        """The button whose description begins so, once it is shown."""

        def found() -> list[str]:
            return [b for b in self.of("ButtonModel") if self.models[b]["description"].startswith(label)]

        self.until(found)
        return found()[-1]

    def says(self, text: str) -> bool:
        return any(text in shown for shown in self.shown)
