"""Each decision record has the same five sections on one page, and the index lists all of them."""

import re
from collections import Counter
from pathlib import Path

import pytest

from ..support.places import ROOT

FOLDER = ROOT / "docs" / "decisions"
INDEX = FOLDER / "README.md"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
SECTIONS = ["Context", "Decision", "Consequences", "Figures", "Rejected"]
TABLE = "| What | Figure | Measured |"
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


def number(record: Path) -> int:
    return int(record.name[:4])


def section(text: str, name: str) -> str:
    return text.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0].strip()


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name[:4])
def test_a_record_has_five_sections_on_one_page(record: Path) -> None:
    text = record.read_text()
    lines = text.splitlines()

    assert lines[0].startswith(f"# {number(record)}. ")
    assert re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)[1:] == SECTIONS
    assert len(lines) <= 55
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name[:4])
def test_a_record_has_figures_alternatives_and_working_links(record: Path) -> None:
    text = record.read_text()
    figures = section(text, "Figures")

    assert figures == "None measured." or TABLE in figures.splitlines()
    assert section(text, "Rejected").startswith("- ")
    assert [path for path in LINK.findall(text) if not (FOLDER / path).exists()] == []


def test_numbers_of_records_are_unique() -> None:
    assert [each for each, times in Counter(map(number, RECORDS)).items() if times > 1] == []


def test_the_index_lists_each_record_once_by_its_title() -> None:
    listed = re.findall(r"^- \[(\d+)\]\(([^)]+)\) (.+)$", INDEX.read_text(), flags=re.MULTILINE)

    titles = [(number(each), each.name, each.read_text().splitlines()[0]) for each in RECORDS]
    assert sorted((int(of), name, f"# {of}. {title}") for of, name, title in listed) == titles
