"""The pages of the documentation are listed by their kind, link to each other, and are short."""

import re
from pathlib import Path

import pytest

from ..support.places import ROOT

DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
GLOSSARY = DOCS / "glossary.md"
GENERATED = DOCS / "reference.md"
CHANGELOG = ROOT / "CHANGELOG.md"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "decisions" and path != INDEX)
KINDS = {"how-to": "How-to", "explanation": "Explanation"}  # of a folder's pages
CODE = re.compile(r"`[^`\n]+`")
FENCED = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
WIDTH = 125  # characters of a line, except in tables and code
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]+))?\)")


def links(text: str) -> list[tuple[str, str]]:
    """The files, each with its anchor, that a text leads to."""
    return LINK.findall(CODE.sub("`", text))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_page_is_listed_once_under_its_kind() -> None:
    _, *parts = re.split(r"^\*\*([\w-]+)\*\*", INDEX.read_text(), flags=re.MULTILINE)
    listed = [(kind, DOCS / path) for kind, text in zip(parts[::2], parts[1::2], strict=True) for path, _ in links(text)]
    pages = [(kind, page) for kind, page in listed if page in PAGES]

    assert sorted(page for _, page in pages) == PAGES
    assert [kind for kind, _ in pages] == [KINDS.get(page.parent.name, kind) for kind, page in pages]
    assert {kind for kind, _ in pages} == {"Tutorial", "How-to", "Reference", "Explanation"}


@pytest.mark.parametrize("page", [ROOT / "README.md", INDEX, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    for path, anchor in links(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_the_glossary_is_short_and_of_words_that_readers_meet() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", GLOSSARY.read_text(), flags=re.MULTILINE)
    texts = [path for path in (ROOT / "README.md", *PAGES) if path != GLOSSARY]
    library = (ROOT / "runbook_lib").rglob("*.py")
    read = "\n".join(path.read_text() for path in (*texts, *library)).lower()

    assert 0 < len(words) <= 25
    assert [word for word in words if not re.search(rf"\b{re.escape(word)}s?\b", read)] == []


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text().count("\n") <= 120


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", CHANGELOG, INDEX, *PAGES], ids=lambda page: str(page.relative_to(ROOT))
)
def test_prose_fits_the_width(page: Path) -> None:
    prose = FENCED.sub("", page.read_text()).splitlines() if page != GENERATED else []

    assert [line for line in prose if len(line) > WIDTH and not line.startswith("|")] == []
