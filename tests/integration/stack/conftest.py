"""What a stack makes itself is what these tests are about."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ...support.made_once import each_its_own
from ...support.owned import short_directory


@pytest.fixture(scope="module", autouse=True)
def own_stacks() -> Iterator[None]:
    with each_its_own():
        yield


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short directory in which stacks make theirs; pytest has made its own elsewhere by then."""
    with short_directory() as directory:
        monkeypatch.setenv("TMPDIR", str(directory))
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield directory
