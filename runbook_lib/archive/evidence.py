"""Evidence files made ready to stand inside a page: tables as rows, pictures as data URIs, text as text."""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROWS_SHOWN = 100
CHARACTERS_SHOWN = 10_000


@dataclass(frozen=True)
class Exhibit:
    """One piece of evidence; `missing` says why there is nothing to show."""

    title: str
    file: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    image: str = ""
    text: str = ""
    cut: str = ""
    missing: str = ""


def exhibits(root: Path, evidence: Iterable[Mapping[str, str]]) -> list[Exhibit]:
    """What the evidence on record shows; a file that cannot be shown is named with the reason. Read-only."""
    return [_exhibit(root, entry) for entry in evidence]


def side_by_side(kept: Iterable[Exhibit]) -> list[tuple[Exhibit, Exhibit]]:
    """The pictures of the same thing before and after, in pairs. Pure."""
    images = {exhibit.file: exhibit for exhibit in kept if exhibit.image}
    names = [(f"{file.removesuffix('-after.png')}-before.png", file) for file in images if file.endswith("-after.png")]
    return [(images[before], images[after]) for before, after in names if before in images]


def _exhibit(root: Path, entry: Mapping[str, str]) -> Exhibit:
    title, file = entry["title"], entry["file"]
    path = (root / file).resolve()
    if not path.is_relative_to(root.resolve()):
        return Exhibit(title, file, missing="It lies outside this run's folder, so it is not shown.")
    try:
        match entry["kind"]:
            case "image":
                return Exhibit(title, file, image=f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}")
            case "table":
                return _table(title, file, json.loads(path.read_text(encoding="utf-8")))
            case _:
                return _text(title, file, path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Exhibit(title, file, missing=f"It cannot be shown: {type(error).__name__}.")


def _table(title: str, file: str, split: dict[str, Any]) -> Exhibit:
    """A table that pandas wrote with `orient="split"`; a plain numbering is no column of it."""
    columns, rows, index = [str(column) for column in split["columns"]], split["data"], split["index"]
    if index != list(range(len(rows))):
        columns, rows = ["", *columns], [[label, *row] for label, row in zip(index, rows, strict=True)]
    cut = f"{len(rows) - ROWS_SHOWN} more rows are in the file." if len(rows) > ROWS_SHOWN else ""
    return Exhibit(title, file, columns=columns, rows=rows[:ROWS_SHOWN], cut=cut)


def _text(title: str, file: str, text: str) -> Exhibit:
    cut = f"{len(text) - CHARACTERS_SHOWN} more characters are in the file." if len(text) > CHARACTERS_SHOWN else ""
    return Exhibit(title, file, text=text[:CHARACTERS_SHOWN], cut=cut)
