"""The way on which a kernel reads what a page sends."""

from typing import Any

from ipykernel._version import version_info
from IPython.core.getipython import get_ipython

MENDED = (7, 4)


def send_replies_through_its_stream() -> None:
    """Keep an older kernel from leaving cells and clicks unread, which then seem to hang.

    Before 7.4 ipykernel sends replies beside the stream that reads requests from the same socket: one that arrives
    meanwhile stays unread until a page connects anew (ipython/ipykernel#1554). There, as in 7.4, they go through it.
    """
    kernel: Any = getattr(get_ipython(), "kernel", None)
    thread = getattr(kernel, "shell_channel_thread", None)
    if thread is not None and version_info < MENDED:
        thread.manager._shell_socket = kernel.shell_stream
