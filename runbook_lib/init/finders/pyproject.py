"""A Python project: how its packages are installed."""

from collections.abc import Iterator
from pathlib import Path

from runbook_lib.init.found import Folder, Found, within

RANK = 5
BY_FILE = {
    "uv.lock": ["uv", "sync", "--frozen"],
    "poetry.lock": ["poetry", "install", "--no-interaction"],
    "requirements.txt": ["python", "-m", "pip", "install", "-r", "requirements.txt"],
    "pyproject.toml": ["python", "-m", "pip", "install", "."],
}


def find(folder: Folder) -> Iterator[Found]:
    """The install of a Python project. Read-only."""
    for where, _ in folder.files("pyproject.toml") or folder.files("requirements.txt"):
        place = Path(where).parent
        name, install = next((name, command) for name, command in BY_FILE.items() if (folder.path / place / name).exists())
        yield Found(str(place / name), install=within(where, install))
