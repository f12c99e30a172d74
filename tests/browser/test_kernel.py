"""The kernel that JupyterLab starts for a notebook of the runbook, spoken to as JupyterLab does."""

import os
from collections.abc import Iterator

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from runbook_lib.lab.server import SETTINGS

from ..support.browser_seat import python_path

SECONDS = 30
REQUESTS = 300


@pytest.fixture
def client(kernel: str) -> Iterator[BlockingKernelClient]:
    own = KernelSpecManager(kernel_dirs=[str(SETTINGS / "kernels")], ensure_native_kernel=False)
    manager = KernelManager(kernel_spec_manager=own, transport="ipc")
    manager.start_kernel(env={**os.environ, **python_path(kernel)})
    connected = manager.client()
    connected.start_channels()
    try:
        connected.wait_for_ready(timeout=SECONDS)
        assert connected.kernel_info(reply=True, timeout=SECONDS)["content"]["status"] == "ok"
        yield connected
    finally:
        connected.stop_channels()
        manager.shutdown_kernel(now=True)


def test_no_request_stays_unread_where_replies_go_out_meanwhile(client: BlockingKernelClient) -> None:
    unanswered: set[str] = set()
    for number in range(REQUESTS):  # each is sent as a reply comes in, and others are under way
        unanswered |= {client.execute("1")} if number % 2 else {client.kernel_info(), client.execute("1")}
        unanswered.discard(answered(client))
    while unanswered:
        unanswered.discard(answered(client))


def answered(client: BlockingKernelClient) -> str:
    """Which request the next reply answers."""
    answer: str = client.get_shell_msg(timeout=SECONDS)["parent_header"]["msg_id"]
    return answer
