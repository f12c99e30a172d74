"""What this machine has free."""

from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
LEFT = 10  # a tenth of the memory is left to what serves users


def free_memory() -> int:
    """The bytes of memory that can be taken now: of the machine, and of the control group where that has less. Read-only."""
    found = [_available()[1]]
    with suppress(OSError, ValueError, IndexError):
        own = Path("/proc/self/cgroup").read_text().rpartition("0::")[2].split()[0]
        for group in [CGROUPS / own.strip("/"), *(CGROUPS / own.strip("/")).parents]:
            with suppress(OSError, ValueError):  # no limit there
                limit = int((group / "memory.max").read_text())
                found.append(limit - int((group / "memory.current").read_text()))
    return max(0, min(found))


def spare_memory() -> int:
    """Return what of it a build may take, so that a tenth of the machine's is left. Read-only."""
    return max(0, free_memory() - _available()[0] // LEFT)


def megabytes(number: int) -> str:
    """Return a number of bytes, as text."""
    return f"{number / 1e6:.0f} MB"


def _available() -> tuple[int, int]:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    found = {words[0]: int(words[1]) * 1024 for words in lines}
    return found["MemTotal:"], found["MemAvailable:"]
