"""A team's repository as a few files."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Made = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def repository(tmp_path: Path) -> Made:
    def make(files: Mapping[str, str]) -> Path:
        folder = tmp_path / "shop"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        folder.mkdir(exist_ok=True)
        return folder

    return make
