"""What a kernel of this JupyterLab loads as it starts."""

from pathlib import Path
from typing import Any

from ipykernel._version import version_info

from runbook_lib.run import Run
from runbook_lib.ui import next_notebook

MENDED = (7, 4)


def load_ipython_extension(shell: Any) -> None:
    """Have the next notebook made in the run's folder, and an older kernel mended."""
    next_notebook.prepare[:] = [_prepared]
    _mend(shell)


def _prepared(run: Run) -> Path:
    from runbook_lib.lab.copies import prepare

    return prepare(run)[0]


def _mend(shell: Any) -> None:
    """Keep an older kernel from leaving a page, a cell or a click unanswered, which then seems to hang.

    Before 7.4 ipykernel sends replies next to the stream that reads requests from the same socket: one that arrives
    meanwhile stays unread until a page connects again (ipython/ipykernel#1554). There, as in 7.4, they go through it.
    """
    if version_info < MENDED:
        shell.kernel.shell_channel_thread.manager._shell_socket = shell.kernel.shell_stream
