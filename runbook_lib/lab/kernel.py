"""What a kernel of this JupyterLab loads as it starts."""

from typing import Any

from ipykernel._version import version_info

MENDED = (7, 4)


def load_ipython_extension(shell: Any) -> None:
    """Keep an older kernel from leaving a page, a cell or a click unanswered, which then seems to hang.

    Before 7.4 ipykernel sends replies beside the stream that reads requests from the same socket: one that arrives
    meanwhile stays unread until a page connects anew (ipython/ipykernel#1554). There, as in 7.4, they go through it.
    """
    if version_info < MENDED:
        shell.kernel.shell_channel_thread.manager._shell_socket = shell.kernel.shell_stream
