"""The kernel of a run without a person: `python -m runbook_lib.headless.kernel -f CONNECTION_FILE`."""

import atexit
import gc
import os
import sys
from typing import Any

from runbook_lib.browser.chromium import of_this_process
from runbook_lib.system.signals import settle

GARBAGE = 50_000  # objects before a look for garbage; modules make many as they load, and leave none


def main() -> None:
    """Run cells until asked to exit; the browser's driver starts meanwhile."""
    settle()
    os.environ["RUNBOOK_HEADLESS"] = "1"
    gc.set_threshold(GARBAGE)
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
