"""A separate process that resumes the clients of poolers if the process that paused them is killed.

It runs this file alone and defers its imports, so that its start does not prolong the pause.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runbook_lib.postgres.pooler import Pooler

TRIES, AGAIN = 10, 0.5  # tries of RESUME, and the seconds between them
RESUMED = b"resumed"


@contextmanager
def resumed_if_killed(poolers: Sequence["Pooler"]) -> Iterator[None]:
    """Resume the poolers' clients if this process ends within the block. Changes the poolers, then."""
    with subprocess.Popen(
        [sys.executable, "-I", __file__],
        bufsize=0,
        stdin=subprocess.PIPE,  # closes when this process ends, in any way; a command line would show passwords
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as guard:
        _write(guard, json.dumps([asdict(pooler) for pooler in poolers]).encode() + b"\n")
        try:
            yield
        finally:
            _write(guard, RESUMED)


def _write(guard: "subprocess.Popen[bytes]", what: bytes) -> None:
    with suppress(BrokenPipeError):  # the guard was killed itself; RESUME is pending cleanup all the same
        if guard.stdin:
            guard.stdin.write(what)


def _main() -> None:
    described, _, end = sys.stdin.buffer.read().partition(b"\n")
    if end == RESUMED:
        return
    from runbook_lib.errors import AdapterError
    from runbook_lib.postgres.pooler import Pooler, resume

    poolers = [Pooler(**{**each, "databases": tuple(each["databases"])}) for each in json.loads(described)]
    for _ in range(TRIES):
        with suppress(AdapterError):
            resume(poolers)
            return
        time.sleep(AGAIN)


if __name__ == "__main__":
    _main()
