"""Save notebooks into a run folder: redacted, and whole or not at all.

This module must not import papermill: papermill loads it while its own modules are still being imported.
"""

import json
from pathlib import Path
from typing import Any

from runbook_lib.errors import ParametersError
from runbook_lib.journal.folder import RunFolder
from runbook_lib.redaction import HIDDEN, hidden_items, hidden_places, redact, register_environment

SCHEME = "runbook://"


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
        RunFolder(file.parent).write_redacted(file.name, json.dumps(clean(notebook), indent=1, ensure_ascii=False) + "\n")


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
    """Redact each text of a notebook by itself: redacting its JSON could cut an escape sequence in two."""
    match value:
        case dict():
            hidden = hidden_items(value)
            cleaned = {redact(key): HIDDEN if key in hidden else clean(item) for key, item in value.items()}
            return cleaned | {"value": HIDDEN} if value.get("_model_name") == "PasswordModel" else cleaned
        case [str(), *_] if _is_one_text(value):
            return _clean_lines(value)
        case list():
            return [HIDDEN if hide else clean(item) for item, hide in zip(value, hidden_places(value), strict=True)]
        case str():
            return redact(value)
        case _:
            return value


def _is_one_text(items: list[Any]) -> bool:
    return all(isinstance(item, str) for item in items) and all(item.endswith("\n") for item in items[:-1])


def _clean_lines(lines: list[str]) -> list[str]:
    """A notebook keeps long texts as lists of lines, and a secret may have several lines."""
    whole = "".join(lines)
    together = redact(whole)
    return lines if together == whole else together.splitlines(keepends=True)
