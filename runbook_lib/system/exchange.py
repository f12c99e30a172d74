"""Puts a file or folder in the place of another by renames, each of which another process may cut short.

Which is which is known by the inode, so that after a kill the same call completes what was begun.
"""

import ctypes
import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
Identity = tuple[int, int]  # device and inode


def identity(path: Path) -> Identity | None:
    """Return what identifies the very file or folder at a path, None where there is none. Read-only."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def swap(one: Path, other: Path) -> bool:
    """Exchange two paths in one move; False where the system or the file system cannot. Changes both, or neither.

    Raises:
        OSError: It may not be done here.
    """
    if not hasattr(_LIBC, "renameat2"):
        return False
    if _LIBC.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    if (number := ctypes.get_errno()) in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number), str(other))


@dataclass(frozen=True)
class Exchange:
    """What is put at `place`, waits at `new` until then, and has what was there before at `old` afterwards.

    All three are on one file system. Where `what` is None, nothing is put there.
    """

    place: Path
    new: Path
    old: Path
    what: Identity | None

    @property
    def is_made(self) -> bool:
        """Whether it is in place. Read-only."""
        return identity(self.place) == self.what

    @property
    def is_begun(self) -> bool:
        """Whether the place is not as it was before. Read-only."""
        return os.path.lexists(self.old) or (self.what is not None and identity(self.new) != self.what)

    def make(self) -> None:
        """Put it in place, or complete that. Changes all three paths."""
        if self.what is None:
            if os.path.lexists(self.place) and not os.path.lexists(self.old):
                move(self.place, self.old)
            return
        if identity(self.old) == self.what:  # an undo was cut short
            move(self.old, self.new)
        if identity(self.place) != self.what:
            if not os.path.lexists(self.place):
                move(self.new, self.place)
                return
            if os.path.lexists(self.old):  # somebody made one there in between
                remove(self.place)
                move(self.new, self.place)
                return
            if not swap(self.new, self.place):
                move(self.place, self.old)
                move(self.new, self.place)
        if os.path.lexists(self.new):
            move(self.new, self.old)

    def take_back(self) -> None:
        """Put back what was there before, or complete that. Changes all three paths."""
        if self.what is None:
            if os.path.lexists(self.old):
                remove(self.place)
                move(self.old, self.place)
            return
        if identity(self.old) == self.what:
            move(self.old, self.new)
        if identity(self.place) == self.what:
            source = next((path for path in (self.old, self.new) if os.path.lexists(path)), None)
            if source is None:
                move(self.place, self.new)
            elif not swap(source, self.place):
                free = self.new if source == self.old else self.old
                move(self.place, free)
                move(source, self.place)
            if identity(self.old) == self.what:
                move(self.old, self.new)
        elif os.path.lexists(self.old):
            remove(self.place)
            move(self.old, self.place)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all below it, where it is there. Changes the path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move_or_copy(source: Path, target: Path) -> None:
    """Have what is at `source` at `target`; on another file system it is copied, links as links. Changes both."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target, follow_symlinks=False)


def move(source: Path, target: Path) -> None:
    """Rename what is at `source`; the folder that it goes to is made. Changes both."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
