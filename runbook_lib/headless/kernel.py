"""The kernel of a run without a person: `python -m runbook_lib.headless.kernel`, which waits for its orders on stdin.

A command that will need one has it load ahead of that, while the command itself loads: so this module imports little.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runbook_lib.system import temporary
from runbook_lib.system.signals import end_with_parent, settle

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

GARBAGE = 50_000  # objects before a look for garbage; modules make many as they load, and leave none
EXIT_GRACE = 10  # seconds that a kernel has to exit once it is asked to; half-way it is sent SIGTERM
AHEAD = "--ahead"  # has a kernel load what the cells of a run need before it reads its orders

_ahead: list[subprocess.Popen[bytes]] = []  # the kernel that loads ahead, until it is given its orders


def load_ahead() -> None:
    """Start a kernel early for the next `started` of this process; it ends with this process."""
    _ahead.append(_process(AHEAD))


@contextmanager
def started(*, opens_page: bool = True, given: Mapping[str, str] | None = None) -> Iterator[AsyncKernelManager]:
    """Give a kernel of our own, through sockets that only this user reaches; kill what is left of it at the end.

    Where no check `opens_page`, it does not start the browser's driver beforehand. What is `given` is in its environment.
    """
    process = _ahead.pop() if _ahead else _process()  # first, so that it loads while this process does
    from jupyter_core.utils import run_sync

    from runbook_lib.headless.manager import Manager

    with temporary.directory() as own:
        manager = Manager(process, {"opens_page": opens_page, "given": dict(given or {})}, own)
        manager.shutdown_wait_time = EXIT_GRACE
        run_sync(manager.start_kernel)()
        try:
            yield manager
        finally:
            if run_sync(manager.is_alive)():
                run_sync(manager.shutdown_kernel)(now=True)
            run_sync(manager.cleanup_resources)()


def _process(*options: str) -> subprocess.Popen[bytes]:
    """Start a process of this module that has no orders yet."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, *options],
        env={**os.environ, "JPY_PARENT_PID": str(os.getpid())},
        stdin=subprocess.PIPE,
        preexec_fn=end_with_parent,
        start_new_session=True,
    )


def main() -> None:
    """Read the orders and run cells until asked to exit; without orders, which the parent's end means too, end at once.

    The browser's driver starts meanwhile, unless its orders open no page.
    """
    settle()
    os.environ["RUNBOOK_HEADLESS"] = "1"
    gc.set_threshold(GARBAGE)
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # nobody debugs here, and it is slow to load
    if AHEAD in sys.argv:
        _load()
    line = sys.stdin.buffer.readline()
    if not line:
        return
    orders = json.loads(line)
    os.environ.update(orders["given"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    if orders["opens_page"]:
        from runbook_lib.browser.chromium import of_this_process

        of_this_process().warm()
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    app.initialize(["-f", orders["connection_file"], "--HistoryManager.hist_file=:memory:"])  # type: ignore[no-untyped-call]
    atexit.register(_end, app.kernel.control_thread)
    app.start()  # type: ignore[no-untyped-call]


def _load() -> None:
    import ipykernel.kernelapp  # noqa: F401

    import runbook_lib.notebook  # noqa: F401
    from runbook_lib import documents

    documents.plan_model().model_rebuild()
    documents.target_model().model_rebuild()


def _end(control_thread: Any) -> None:
    control_thread.stop()  # before the thread that publishes output, for which the kernel may wait ten seconds
    control_thread.join()
    gc.freeze()  # what is left goes with the process: the interpreter need not search it


if __name__ == "__main__":
    main()
