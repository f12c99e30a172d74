"""Starts the kernel of a run without a person: first, so that it loads while what drives it is loaded."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync

from runbook_lib.headless import kernel
from runbook_lib.system import temporary
from runbook_lib.system.signals import end_with_parent

EXIT_GRACE = 10  # seconds that a kernel has to exit once it is asked to; half-way it is sent SIGTERM
OPTIONS = ["-f", "{connection_file}", "--HistoryManager.hist_file=:memory:"]


@contextmanager
def started() -> Iterator[AsyncKernelManager]:
    """A kernel of our own, through sockets that only this user reaches; what is left of it at the end is killed."""
    with temporary.directory() as own:
        manager = AsyncKernelManager(
            kernel_name="python3", transport="ipc", ip=f"{own}/kernel", connection_file=f"{own}/connection.json"
        )
        manager.shutdown_wait_time = EXIT_GRACE
        assert manager.kernel_spec
        manager.kernel_spec.argv = [sys.executable, "-P", "-m", kernel.__name__, *OPTIONS]
        run_sync(manager.start_kernel)(preexec_fn=end_with_parent)
        try:
            yield manager
        finally:
            if run_sync(manager.is_alive)():
                run_sync(manager.shutdown_kernel)(now=True)
            run_sync(manager.cleanup_resources)()
