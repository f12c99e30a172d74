"""The extension that a kernel of this JupyterLab loads at start."""

from pathlib import Path
from typing import Any

from ipykernel._version import version_info

from runbook_lib.run import Run
from runbook_lib.ui import next_notebook

FIXED = (7, 4)


def load_ipython_extension(shell: Any) -> None:
    """Make the next notebook in the run's folder, and fix an older kernel."""
    next_notebook.prepare[:] = [_prepared]
    _fix_replies(shell)


def _prepared(run: Run) -> Path:
    from runbook_lib.lab.copies import prepare

    return prepare(run)[0]


def _fix_replies(shell: Any) -> None:
    """Keep an older kernel from leaving a page, a cell or a click unanswered, which then seems to hang.

    Before 7.4, ipykernel sends replies on the socket from which a stream reads requests. A request that arrives then
    stays unread until a page reconnects (ipython/ipykernel#1554). This sends replies through the stream, as 7.4 does.
    """
    if version_info < FIXED:
        shell.kernel.shell_channel_thread.manager._shell_socket = shell.kernel.shell_stream
