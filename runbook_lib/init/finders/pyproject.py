"""A Python project: how its packages are installed."""

from collections.abc import Iterator
from pathlib import Path

from runbook_lib.init.found import Folder, Found, within

RANK = 5
BY_FILE = {
    "uv.lock": (["uv", "sync", "--frozen"], "a .venv whose programs name the folder that it was made in"),
    "poetry.lock": (["poetry", "install", "--no-interaction"], "an environment that belongs to the folder's path"),
    "requirements.txt": (["python", "-m", "pip", "install", "-r", "requirements.txt"], "the Python that runs it"),
    "pyproject.toml": (["python", "-m", "pip", "install", "."], "the Python that runs it"),
}


def find(folder: Folder) -> Iterator[Found]:
    """Return the install of a Python project. Read-only."""
    for where, _ in folder.files("pyproject.toml") or folder.files("requirements.txt"):
        place = Path(where).parent
        name, (install, into) = next((name, of) for name, of in BY_FILE.items() if (folder.path / place / name).exists())
        yield Found(str(place / name), install=within(where, install), installs_into=into)
