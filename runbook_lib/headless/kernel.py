"""The kernel of a run without a person, and its start: `python -m runbook_lib.headless.kernel -f CONNECTION_FILE`."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runbook_lib.browser.chromium import of_this_process
from runbook_lib.system import temporary
from runbook_lib.system.signals import end_with_parent, settle

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

NO_PAGE = "RUNBOOK_NO_PAGE"  # an environment variable: "1" where the notebook's checks open no page, so no driver starts yet
GARBAGE = 50_000  # objects before a look for garbage; modules make many as they load, and leave none
EXIT_GRACE = 10  # seconds that a kernel has to exit once it is asked to; half-way it is sent SIGTERM
OPTIONS = ["-f", "{connection_file}", "--HistoryManager.hist_file=:memory:"]


@contextmanager
def started(*, opens_page: bool = True, given: Mapping[str, str] | None = None) -> Iterator[AsyncKernelManager]:
    """A kernel of our own, through sockets that only this user reaches; what is left of it at the end is killed.

    Where no check `opens_page`, it does not start the browser's driver beforehand. What is `given` is in its environment.
    """
    from jupyter_client.manager import AsyncKernelManager  # here, since the kernel itself needs no manager
    from jupyter_core.utils import run_sync

    with temporary.directory() as own:
        manager = AsyncKernelManager(
            kernel_name="python3", transport="ipc", ip=f"{own}/kernel", connection_file=f"{own}/connection.json"
        )
        manager.shutdown_wait_time = EXIT_GRACE
        assert manager.kernel_spec
        manager.kernel_spec.argv = [sys.executable, "-P", "-m", __name__, *OPTIONS]
        environment = {**os.environ, **(given or {}), NO_PAGE: "" if opens_page else "1"}
        run_sync(manager.start_kernel)(preexec_fn=end_with_parent, env=environment)
        try:
            yield manager
        finally:
            if run_sync(manager.is_alive)():
                run_sync(manager.shutdown_kernel)(now=True)
            run_sync(manager.cleanup_resources)()


def main() -> None:
    """Run cells until asked to exit; the browser's driver starts meanwhile, unless it was said that no page is opened."""
    settle()
    os.environ["RUNBOOK_HEADLESS"] = "1"
    gc.set_threshold(GARBAGE)
    if os.environ.pop(NO_PAGE, "") != "1":
        of_this_process().warm()
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # nobody debugs here, and it is slow to load
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    app.initialize()  # type: ignore[no-untyped-call]
    atexit.register(_end, app.kernel.control_thread)
    app.start()  # type: ignore[no-untyped-call]


def _end(control_thread: Any) -> None:
    control_thread.stop()  # before the thread that publishes output, for which the kernel may wait ten seconds
    control_thread.join()
    gc.freeze()  # what is left goes with the process: the interpreter need not search it


if __name__ == "__main__":
    main()
