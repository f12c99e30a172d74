"""How papermill saves into a run folder: redacted, and whole or not at all.

This module must not import papermill: papermill loads it while its own modules are still being imported.
"""

import json
import re
from pathlib import Path
from typing import Any

from runbook_lib.errors import ParametersError
from runbook_lib.folder import RunFolder
from runbook_lib.redaction import HIDDEN, redact, register_environment

SCHEME = "runbook://"
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


class RunFolderHandler:
    """Reads and writes notebooks at `runbook:///absolute/path.ipynb`.

    Papermill registers the class itself, never an instance, so every method is static.
    """

    @staticmethod
    def read(path: str) -> str:
        """The notebook's text. Read-only."""
        return _local(path).read_text(encoding="utf-8")

    @staticmethod
    def listdir(path: str) -> list[str]:
        """The files below `path`, as addresses. Read-only."""
        return [f"{SCHEME}{file}" for file in sorted(_local(path).iterdir())]

    @staticmethod
    def pretty_path(path: str) -> str:
        """The path as it is shown. Read-only."""
        return path.removeprefix(SCHEME)

    @staticmethod
    def write(buf: str, path: str) -> None:
        """Write a notebook, redacted, so that a reader never meets half of it.

        Raises:
            ParametersError: The directory is not there.
        """
        file = _local(path)
        if not file.parent.is_dir():
            raise ParametersError(
                f"The run folder {file.parent} is not there, so the executed notebook cannot be kept.",
                where=path,
                state="Nothing was written.",
                safe_next="Create the run first; its folder is where the output path has to point.",
            )
        register_environment()
        notebook = json.loads(buf)
        RunFolder(file.parent).write_text(file.name, json.dumps(clean(notebook), indent=1, ensure_ascii=False) + "\n")


def _local(path: str) -> Path:
    file = Path(path.removeprefix(SCHEME))
    if not file.is_absolute():
        raise ParametersError(
            f"{path} is no address in a run folder.",
            state="Nothing was touched.",
            safe_next=f"Write {SCHEME}/absolute/path.ipynb.",
        )
    return file


def clean(value: Any) -> Any:
    """A notebook with every text redacted by itself: redacting its JSON could cut an escape sequence in two."""
    match value:
        case dict():
            cleaned = {redact(key): clean(item) for key, item in value.items()}
            return cleaned | {"value": HIDDEN} if value.get("_model_name") == "PasswordModel" else cleaned
        case [str(), *_] if all(isinstance(item, str) for item in value):
            return _clean_lines(value)
        case list():
            return [clean(item) for item in value]
        case str():
            return _clean_text(value)
        case _:
            return value


def _clean_lines(lines: list[str]) -> list[str]:
    """A notebook keeps long texts as lists of lines, and a secret may have several lines."""
    each = [_clean_text(line) for line in lines]
    together = _clean_text("".join(each))
    return each if together == "".join(each) else together.splitlines(keepends=True)


def _clean_text(text: str) -> str:
    cleaned = redact(text)
    if "\x1b" not in cleaned:
        return cleaned
    plain = _COLOUR.sub("", cleaned)  # in a traceback the highlighting may run through a secret
    without_colour = redact(plain)
    return cleaned if without_colour == plain else without_colour
