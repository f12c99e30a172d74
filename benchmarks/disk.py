"""Limit the speed of a disk, as a cloud's volumes are limited, by a control group."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def limited(pid: int, directory: Path, megabytes: float) -> Iterator[None]:
    """Limit a process, and its later children, to write to the disk of `directory` at no more than so many MB/s.

    What is flushed to the disk is limited, as a database's log is; pages that the system writes later by itself are not,
    where control groups are of the first version.

    Raises:
        SystemExit: This system has no such limit, or only root may set it.
    """
    number = directory.stat().st_dev
    device, speed = f"{os.major(number)}:{os.minor(number)}", int(megabytes * 1e6)
    first = GROUPS / "blkio"
    group = (first if first.exists() else GROUPS) / f"bench-{uuid.uuid4().hex[:8]}"
    name, limit = (
        ("blkio.throttle.write_bps_device", f"{device} {speed}") if first.exists() else ("io.max", f"{device} wbps={speed}")
    )
    try:
        group.mkdir()
        (group / name).write_text(limit)
        children = [c for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
        _move([str(pid), *children], group)
    except OSError as error:
        raise SystemExit(f"--disk needs control groups, a whole disk, and root: {error}. Leave it out.") from error
    try:
        yield
    finally:
        while inside := (group / "cgroup.procs").read_text().split():
            _move(inside, group.parent)
        group.rmdir()


def _move(pids: list[str], group: Path) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # a session that has ended meanwhile
            (group / "cgroup.procs").write_text(pid)
