"""What every notebook says of itself: how to use it once, what to expect of each cell, and pictures that are there."""

import re
import subprocess
from base64 import b64decode
from itertools import pairwise
from pathlib import Path
from zipfile import ZipFile

import nbformat
import papermill
import pytest
from nbformat import NotebookNode

from runbook_lib.headless import conductor  # registers the address of a run folder with papermill  # noqa: F401

from ..support.places import ROOT
from ..support.wheel import built

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURE = re.compile(r"!\[([^\]]*)\]\(attachment:([^)]+)\)")
WITH_PICTURES = ["01-triage", "02-quick-rollback", "03-full-rollback", "05-close-out", "06-restore-a-part"]
LARGEST = 40_000  # bytes of a picture


def read(notebook: Path) -> NotebookNode:
    return nbformat.read(notebook, as_version=4)


def pictures(cells: list[NotebookNode]) -> dict[str, bytes]:
    """The pictures that the cells show, by their descriptions."""
    return {
        " ".join(alt.split()): b64decode(cell["attachments"][name]["image/png"])
        for cell in cells
        for alt, name in PICTURE.findall(cell.source)
    }


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_once_how_to_use_it(notebook: Path) -> None:
    text = "\n".join(cell.source for cell in read(notebook).cells)

    assert len(re.findall("run the cell(?! again)", text, re.IGNORECASE)) == 0
    assert text.count("Shift+Enter runs a cell and goes to the next") == 1
    assert "Run All* waits at each question" in read(notebook).cells[0].source


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_cell_says_what_to_expect_and_when(notebook: Path) -> None:
    cells = read(notebook).cells[2:]  # after the title and the parameters
    before = [text.source for text, cell in pairwise(cells) if cell.cell_type == "code"]

    assert before
    assert [text for text in before if not re.search(r"\*\*Expect\*\*(, [^:]*\b(s|min|seconds|once|time))?", text)] == []
    assert [text for text in before if len(re.findall(r"^- \*\*", text, re.MULTILINE)) > 4] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_picture_is_there_small_and_described(notebook: Path) -> None:
    shown = pictures(read(notebook).cells)

    assert bool(shown) == (notebook.stem in WITH_PICTURES)
    assert [alt for alt in shown if not alt.startswith("Healthy result, an example: ")] == []
    assert [alt for alt, png in shown.items() if not png.startswith(b"\x89PNG") or len(png) > LARGEST] == []


def test_pictures_of_the_approval_and_the_end_are_in_a_rollback() -> None:
    shown = " ".join(pictures(read(ROOT / "notebooks" / "03-full-rollback.ipynb").cells))

    assert ("APPROVED" in shown, "VERIFIED" in shown) == (True, True)
    assert "recommendation" in " ".join(pictures(read(ROOT / "notebooks" / "01-triage.ipynb").cells))


@pytest.mark.parametrize("name", WITH_PICTURES)
def test_pictures_survive_papermill_and_redaction(name: str, tmp_path: Path) -> None:
    source, copy = ROOT / "notebooks" / f"{name}.ipynb", tmp_path / "copy.ipynb"
    papermill.execute_notebook(str(source), f"runbook://{copy}", {}, prepare_only=True, progress_bar=False)

    assert pictures(read(copy).cells) == pictures(read(source).cells) != {}


@pytest.mark.slow
def test_pictures_survive_the_conversion_to_html(tmp_path: Path) -> None:
    source = ROOT / "notebooks" / "03-full-rollback.ipynb"
    lab = ROOT / ".venv-lab" / "bin" / "python"
    command = [lab, "-m", "nbconvert", "--to", "html", "--output-dir", tmp_path, source]
    subprocess.run(command, check=True, capture_output=True)
    page = (tmp_path / "03-full-rollback.html").read_text()

    assert len(re.findall(r'<img[^>]*src="data:image/png;base64', page)) == len(pictures(read(source).cells)) == 2
    assert "attachment:" not in page


def test_a_wheel_holds_the_notebooks_with_their_pictures(tmp_path: Path) -> None:
    with ZipFile(built(tmp_path)) as wheel:
        names = wheel.namelist()
        held = {
            Path(name).stem: pictures(nbformat.reads(wheel.read(name).decode(), as_version=4).cells)
            for name in names
            if re.fullmatch(r"runbook_lib/headless/notebooks/.*\.ipynb", name)
        }

    assert held == {path.stem: pictures(read(path).cells) for path in NOTEBOOKS}
    assert {f"runbook_lib/headless/pictures/{name}.png" for name in ("triage", "approved", "verified")} <= set(names)
