"""Runs one command with less of the machine, in another folder's place, and reports what it used.

The folder is mounted in the place for this command only: in its own mount namespace, if the system gives one.
`LocalProcesses` runs this file by itself, so it imports nothing but the standard library.
"""

import ctypes
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

NICE = 10  # of 19: services that serve users come first
LOOK = 0.1  # seconds between two looks at the memory that is used
NEWNS, NEWUSER = 0x00020000, 0x10000000  # of unshare(2)
BIND, REC, PRIVATE = 4096, 16384, 1 << 18  # of mount(2)
STORE = (
    "objects-of-the-checkout"  # in the git directory of a scratch clone: the objects that it shares, as seen from the place
)
OVER = 137  # the exit code of a command that was ended for its memory


def take(folder: Path, place: Path) -> bool:
    """Mount `folder` at `place` for this process and its children; returns whether the system allows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        return False
    user, group = os.geteuid(), os.getegid()
    if user != 0:
        if libc.unshare(NEWUSER | NEWNS):
            return False
        with suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    elif libc.unshare(NEWNS):
        return False

    def mount(source: Path, target: Path, flags: int) -> bool:
        return bool(libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None) == 0)

    if not mount(Path("none"), Path("/"), REC | PRIVATE):
        return False
    shared = folder / ".git" / "objects" / "info" / "alternates"
    for line in shared.read_text().splitlines() if shared.is_file() else ():
        if Path(line).is_relative_to(place):  # which is about to be hidden
            store = folder / ".git" / STORE
            store.mkdir(exist_ok=True)
            if not mount(Path(line), store, BIND | REC):
                return False
            if f"../{STORE}" not in shared.read_text().splitlines():
                shared.write_text(f"{shared.read_text()}../{STORE}\n")
    return mount(folder, place, BIND | REC)


def family(of: int) -> list[int]:
    """Return a process, its descendants, and whoever is in their session. Read-only."""
    stats: dict[int, tuple[int, int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):
                words = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                stats[int(entry)] = int(words[1]), int(words[3])
    found, session = {of}, stats.get(of, (0, 0))[1]
    while more := {pid for pid, (parent, own) in stats.items() if parent in found or own == session} - found:
        found |= more
    return sorted(found - {os.getpid()})


def memory(pids: list[int]) -> int:
    """Return the bytes of memory that processes hold, what they share counted once. Read-only."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def run(command: list[str], most: int | None) -> tuple[int, dict[str, object]]:
    """Run a command to its end; returns its exit code and what it used. One that holds more than `most` bytes is ended."""
    begun, child = time.monotonic(), os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        os.execvp(command[0], command)  # noqa: S606  # what the target names, as it names it
    peak, over = 0, False
    ended = select.poll()
    ended.register(os.pidfd_open(child), select.POLLIN)
    while not ended.poll(LOOK * 1000):
        peak = max(peak, memory(pids := family(child)))
        if most is not None and peak > most:
            over = True
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - begun
    return OVER if over else 128 - code if code < 0 else code, {
        "memory": max(peak, used.ru_maxrss * 1024),
        "processors": (used.ru_utime + used.ru_stime) / max(seconds, 0.01),
        "over": over,
    }


def main(given: str, command: list[str]) -> int:
    """Run `command` as `given` says; what it used is written to the file that is named there."""
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    asked = json.loads(given)
    os.nice(NICE)
    allowed = sorted(os.sched_getaffinity(0))
    if asked["processors"]:
        os.sched_setaffinity(0, allowed[-asked["processors"] :])
    folder, in_place = os.getcwd(), False
    if asked["place"]:
        in_place = take(Path(folder), Path(asked["place"]))
        os.chdir(asked["place"] if in_place else folder)
    os.environ["PWD"] = os.getcwd()
    code, used = run(command, asked["memory"])
    Path(asked["report"]).write_text(json.dumps({**used, "in_place": in_place}))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
