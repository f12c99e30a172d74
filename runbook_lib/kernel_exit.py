"""An IPython extension with which a kernel exits without delay."""

import atexit
from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """Have the kernel end its control thread before the thread that publishes output, for which it may wait ten seconds."""
    thread = shell.kernel.control_thread

    def end() -> None:
        thread.stop()
        thread.join()

    atexit.register(end)
