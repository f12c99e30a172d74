"""Temporary files that go with their process, and with them every command that still writes to one.

Each process has one private directory. A watcher process waits for the end of its owner, ends what the owner left running,
and removes the directory. Where the watcher was killed too, the next start of the runbook does the same.

The watcher runs this file by itself, so it imports nothing but the standard library.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "runbook-"
OWNER = "owner.json"
GRACE = 3.0  # seconds that a command has to end after SIGTERM, before SIGKILL
LOOK = 0.02  # seconds between two looks at who is left

_lock = threading.Lock()
_roots: dict[tuple[int, str], Path] = {}  # pid and where temporary files go -> its directory; a forked child makes its own
_watchers: dict[Path, "subprocess.Popen[bytes]"] = {}


def root() -> Path:
    """Return the private directory of this process, made when first asked for; it is removed once the process has ended."""
    with _lock:
        me = (os.getpid(), tempfile.gettempdir())
        path = _roots.get(me)
        if path is None or not path.is_dir():
            path = _roots[me] = Path(tempfile.mkdtemp(prefix=PREFIX))
            claim(path)
        if path not in _watchers or _watchers[path].poll() is not None:
            _watchers[path] = _watch(path)
        return path


@contextmanager
def directory() -> Iterator[Path]:
    """Give a directory of its own below `root()` until the block ends; its name is short, for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="", dir=root(), ignore_cleanup_errors=True) as path:
        yield Path(path)


def claim(path: Path) -> None:
    """Record this process as the owner of a directory."""
    (path / OWNER).write_text(json.dumps(_identity(os.getpid())))


def is_abandoned(path: Path) -> bool:
    """Check whether the owner of a directory is dead. False where that cannot be known from here. Read-only."""
    try:
        if path.is_symlink() or (path / OWNER).stat().st_uid != os.geteuid():
            return False
        recorded = json.loads((path / OWNER).read_text())
    except (OSError, json.JSONDecodeError):
        return False
    return bool(recorded["namespace"] == _namespace() and recorded != _identity(recorded["pid"]))


def sweep() -> None:
    """End the commands that killed processes left running, and remove their directories."""
    for owner in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        if is_abandoned(owner.parent):
            clear(owner.parent)


def clear(path: Path) -> None:
    """End whatever still writes to a file of a directory, then remove the directory; one that cannot be ended keeps it."""
    begun, number = time.monotonic(), signal.SIGTERM
    signalled: set[tuple[int, signal.Signals]] = set()
    while left := _unfinished(path):
        waited = time.monotonic() - begun
        if waited > 2 * GRACE:
            return
        number = signal.SIGKILL if waited > GRACE else signal.SIGTERM
        for pid in left:
            if (pid, number) not in signalled:
                signalled.add((pid, number))
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
                    os.kill(pid, signal.SIGCONT)  # a stopped process takes no SIGTERM
        time.sleep(LOOK)
    shutil.rmtree(path, ignore_errors=True)


def started(pid: int) -> str | None:
    """Return when a living process started, in clock ticks since boot; None for a dead one or a zombie. Read-only."""
    stat = _stat(pid)
    return stat[19] if stat and stat[0] != "Z" else None


def has_ended(pid: int) -> bool:
    """Check whether no process has that pid, or one that its parent has not fetched yet. Read-only."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _stat(pid)[:1] == ["Z"]


def _watch(path: Path) -> "subprocess.Popen[bytes]":
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(path)],
        cwd="/",
        env=kept,
        stdin=subprocess.PIPE,  # which ends with this process, however it ends
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _unfinished(path: Path) -> set[int]:
    """Return the processes that write to a file of the directory, and those in the session of a leader that does. Read-only.

    A file that was removed since does not count: the command it was for has ended, and what runs is meant to.
    """
    stats = {int(p.name): stat for p in Path("/proc").iterdir() if p.name.isdecimal() and (stat := _stat(int(p.name)))}
    living = {pid: int(stat[3]) for pid, stat in stats.items() if stat[0] != "Z" and pid != os.getpid()}
    writers = {pid for pid in living if _writes(pid, f"{path.resolve()}/")}
    return writers | {pid for pid, session in living.items() if session in writers}


def _writes(pid: int, below: str) -> bool:
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                file = os.readlink(f"/proc/{pid}/fd/{number}")
                if file.startswith(below) and not file.endswith(" (deleted)") and _for_writing(pid, number):
                    return True
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        pass
    return False


def _for_writing(pid: int, number: str) -> bool:
    lines = Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines()
    flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
    return flags & os.O_ACCMODE != os.O_RDONLY


def _stat(pid: int) -> list[str]:
    """The fields of a process from its state on: 0 state, 3 session, 19 start; empty where there is none. Read-only."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _identity(pid: int) -> dict[str, int | str | None]:
    return {"pid": pid, "started": started(pid), "namespace": _namespace()}


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


def _main(path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    clear(path)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
