"""What comes with the package: its files, and the extras that a command may need."""

import hashlib
import json
import re
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from pathlib import Path

from runbook_lib.errors import PreconditionError

DISTRIBUTION = "runbook-lib"


def packaged(*parts: str) -> Path:
    """Return the file or folder of that name in the package. Read-only."""
    return Path(str(files("runbook_lib").joinpath(*parts)))


def own_version() -> str:
    """Return the version of this library, "source" where it is run from its source alone. Read-only."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "source"


@cache
def lock_digest() -> str:
    """Return a short name for this library's own files here, and for the versions of all that a fleet needs. Read-only.

    Two checkouts that differ in one line have two names, and so have two minor versions of Python.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found, pending = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}, [(DISTRIBUTION, "fleet")]
    while pending:
        name, extra = pending.pop()
        if name in found:
            continue
        with suppress(PackageNotFoundError):
            found[name] = version(name)
            for each in map(Requirement, requires(name) or []):
                if each.marker is None or each.marker.evaluate({"extra": extra}):
                    pending.append((canonicalize_name(each.name), ""))
    sums = hashlib.sha256(json.dumps(found, sort_keys=True).encode())
    for path in sorted(packaged().rglob("*.py")):
        sums.update(path.read_bytes())
    return sums.hexdigest()[:16]


def require_extra(extra: str) -> None:
    """Make sure that the packages of an extra are installed. Read-only.

    Raises:
        PreconditionError: One is not.
    """
    try:
        needed = _needed(extra, requires(DISTRIBUTION) or [])
    except PackageNotFoundError:  # run from its source alone: nothing says what it needs
        return
    if missing := [name for name in needed if not _is_installed(name)]:
        raise PreconditionError(
            f"This command needs the extra `{extra}`, of which {', '.join(missing)} is not installed.",
            where=str(packaged()),
            state="Nothing was started.",
            safe_next=f'pip install "{DISTRIBUTION}[{extra}]"; in a checkout, `make {MAKES[extra]}` sets it up.',
        )


MAKES = {"rehearsal": "rehearse", "lab": "lab", "fleet": "rehearse-fleet"}  # the command of a checkout for each extra


def _needed(extra: str, requirements: list[str]) -> list[str]:
    """Return the packages that an extra adds, by the package's own metadata. Pure."""
    marker = re.compile(rf"""\bextra\s*==\s*["']{re.escape(extra)}["']""")
    return [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in requirements if marker.search(each)]


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
