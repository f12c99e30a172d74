"""A copy of a fleet's folder, or of a run's, from a URL that fsspec can read. Nothing acts in a copy, nor at a URL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from runbook_lib.config.installed import require_extra
from runbook_lib.errors import AdapterError, ParametersError, PreconditionError
from runbook_lib.journal.folder import FILE_MODE, FLEET, make_private
from runbook_lib.system import temporary

JOURNALS = (FLEET, "journal.jsonl")
READ = (*JOURNALS, "fleet.yaml")  # what says how a fleet and its targets are
NOT_TOUCHED = "Nothing was changed, here or there."


def is_url(place: str) -> bool:
    """Check whether a place is a URL rather than a path. Pure."""
    return "://" in place


def require_path(place: str) -> Path:
    """Return the path of a folder in which a process may act, or of a fleet file. Pure.

    Raises:
        ParametersError: It is a URL.
    """
    if is_url(place):
        raise ParametersError(
            "A fleet at a URL can be read, and nothing can act there: a journal needs fsync and a lock.",
            where=place,
            state="Nothing was touched.",
            safe_next="Name a path that this machine and its workers see. `runbook fleet status`, `runbook fleet report` "
            "and `runbook verify` read a URL.",
        )
    return Path(place)


@contextmanager
def folder(place: str, *, whole: bool = False) -> Iterator[Path]:
    """Give the folder at a path as it is; of one at a URL give a copy, until the block ends. Read-only.

    Args:
        place: A path, or a URL of any kind that fsspec knows.
        whole: Whether to fetch all files, and not only journals and the fleet file.

    Raises:
        ParametersError: The URL holds no fleet and no run.
        PreconditionError: The extra `fleet` is not installed, or what fsspec needs for this kind of URL.
        AdapterError: The URL cannot be read.
    """
    if not is_url(place):
        yield Path(place)
        return
    require_extra("fleet")
    with temporary.directory() as own:
        yield _fetched(place, own, whole)


def _fetched(url: str, own: Path, whole: bool) -> Path:
    from fsspec.core import url_to_fs

    try:
        there, root = url_to_fs(url)
        files = {str(PurePosixPath(name).relative_to(root)): name for name in there.find(root)}
        if not {*JOURNALS} & {*files}:
            raise _wrong(url, f"There is no fleet and no run at {url}: it holds no {' and no '.join(JOURNALS)}.")
        wanted = {name: path for name, path in files.items() if whole or PurePosixPath(name).name in READ}
        return _copied(url, there, wanted, own / PurePosixPath(root).name)
    except ParametersError:
        raise
    except ImportError as error:
        raise PreconditionError(
            f"fsspec cannot read this kind of URL: {error}",
            where=url,
            state=NOT_TOUCHED,
            safe_next="Install what it names, as s3fs for s3://; then run the same command again.",
        ) from None
    except Exception as error:  # each of fsspec's file systems has errors of its own
        raise AdapterError(
            f"The folder cannot be read: {type(error).__name__}: {error}",
            where=url,
            state=NOT_TOUCHED,
            safe_next="Correct the URL, or the rights and the network that it needs; then run the same command again.",
        ) from None


def _copied(url: str, there: Any, files: dict[str, str], to: Path) -> Path:
    """Copy files from a file system of fsspec; as a URL has no modes, the copies have those of a run folder."""
    copies: Sequence[Path] = [to / name for name in files]
    if strange := [name for name in files if ".." in PurePosixPath(name).parts]:
        raise _wrong(url, f"A name of a file at {url} leads out of its folder: {strange[0]}.")
    for copy in copies:
        make_private(copy.parent)
    there.get([*files.values()], [*map(str, copies)])
    for copy in copies:
        os.chmod(copy, FILE_MODE)
    return to


def _wrong(url: str, what: str) -> ParametersError:
    return ParametersError(what, where=url, state=NOT_TOUCHED, safe_next="Name the URL of a fleet's folder or a run's.")
