"""The commands of README and tutorial are run as a reader runs them, and print what the pages show."""

from pathlib import Path

import pytest

from ..support.documented import Block, blocks, printed
from ..support.places import ROOT

README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
SCREEN = 40  # lines


def compare(typed: list[Block], folder: Path, seconds: float) -> None:
    found = printed(typed, folder, seconds)
    for block, (text, code) in zip(typed, found, strict=False):
        assert block.is_shown_by(text), f"{block.typed}\nshown:\n{block.shown}\nprinted:\n{text}"
        assert code == 0, f"{block.typed}\nended with {code}:\n{text}"
    assert len(found) == len(typed)


def test_the_first_screen_of_the_readme_shows_what_is_printed(tmp_path: Path) -> None:
    (first,) = blocks(README)
    assert "runbook rehearse --before schema.sql --migration V42.sql" in first.typed
    assert README.read_text()[: README.read_text().index(first.shown) + len(first.shown)].count("\n") < SCREEN

    compare([blocks(TUTORIAL)[0], first], tmp_path, 120)


@pytest.mark.slow
def test_the_tutorial_is_run_from_top_to_bottom(tmp_path: Path) -> None:
    compare(blocks(TUTORIAL), tmp_path, 900)
