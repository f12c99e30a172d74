"""The rules that the project's own files keep."""

import ast
import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path

import jupytext
import pytest
from papermill.inspection import inspect_notebook

from ..support.places import ROOT

PACKAGE = ROOT / "runbook_lib"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LOCKS = ["headless.lock", "lab.lock", "ipykernel-7.3.lock"]

TESTS = sorted((ROOT / "tests").rglob("*.py"))
LONGEST_FILE, LONGEST_NAME = 400, 70  # lines, characters

FEATURE_WORDS = "|".join(
    [
        r"[\"'.]messages\b",
        r"(FROM|UPDATE|TABLE) messages",
        r"(?<!\.)attachments?(?!:)",  # other than those of a notebook's cell
        r"media_?url",
        r"replied",
        r"conversation",
        r"legacy_migration",
        r"social_selling",
        r"FEAT-2025",
    ]
)


def modules() -> list[Path]:
    return [p for p in PACKAGE.rglob("*.py") if PACKAGE / "rehearsal" / "application" not in p.parents]


def test_every_temporary_file_is_below_the_directory_of_its_process() -> None:
    calls = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in modules()
        if path.name != "temporary.py" and PACKAGE / "rehearsal" not in path.parents
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and re.search(r"\b(NamedTemporaryFile|TemporaryDirectory|mkstemp|mkdtemp)$", ast.unparse(node.func))
        and not any(keyword.arg == "dir" for keyword in node.keywords)
    ]

    assert calls == []


def test_nothing_outside_the_rehearsal_names_a_word_of_the_feature() -> None:
    named = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix in {".py", ".j2", ".yaml"} and PACKAGE / "rehearsal" not in path.parents
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(FEATURE_WORDS, line, re.IGNORECASE)
    ]

    assert named == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_and_its_text_say_the_same(notebook: Path) -> None:
    def cells(path: Path) -> list[tuple[str, str, list[str]]]:
        return [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in jupytext.read(path).cells]

    assert cells(notebook) == cells(notebook.with_suffix(".py"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    content = json.loads(notebook.read_text())

    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in content["cells"])
    assert "papermill" not in content["metadata"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_short_cells_that_each_follow_prose(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    code = [(before, cell) for before, cell in pairwise(cells) if cell["cell_type"] == "code"]
    source = ["".join(cell["source"]) for _, cell in code]

    assert all(before["cell_type"] == "markdown" for before, _ in code)
    assert not [text for text in source if re.search(r"^\s*(def|for|while|try|SELECT)\b", text, re.MULTILINE)]
    assert sum(text.startswith("#") and not text.startswith("##") for c in cells[:1] for text in c["source"]) == 1


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_reads_every_parameter_of_a_notebook(notebook: Path) -> None:
    cells = jupytext.read(notebook).cells
    (source,) = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]

    assert list(inspect_notebook(str(notebook))) == re.findall(r"^([A-Z]+):", source, re.MULTILINE)


def test_the_top_level_holds_what_it_should_and_no_more() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in tracked.splitlines()}

    assert top <= {
        "pyproject.toml", "notebooks", "runbook_lib", "parameters", "outputs", "tests", "README.md", "CHANGELOG.md",
        "LICENSE", "Makefile", "templates", "docs", "benchmarks", ".ci", ".gitignore",
    }  # fmt: skip


def test_no_lock_names_a_host() -> None:
    locks = [path for path in (ROOT / ".ci").rglob("*") if path.suffix == ".lock" or path.name == "package-lock.json"]

    assert len(locks) >= 3
    assert [path.name for path in locks if "://" in path.read_text()] == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_a_hash(name: str) -> None:
    lock = (ROOT / ".ci" / name).read_text()
    packages = re.findall(r"^[a-z0-9._-]+==", lock, re.MULTILINE)

    assert packages
    assert len(re.findall(r"^[a-z0-9._-]+==[^\n]+\\\n    --hash=sha256:", lock, re.MULTILINE)) == len(packages)


def test_a_file_of_tests_is_short_and_a_tests_name_too() -> None:
    files = [str(path.relative_to(ROOT)) for path in TESTS if len(path.read_text().splitlines()) > LONGEST_FILE]
    names = [
        node.name
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and len(node.name) > LONGEST_NAME
    ]

    assert (files, names) == ([], [])


def test_no_test_replaces_what_is_private() -> None:
    replaced = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and re.search(r"\b(setattr|patch|patch\.object)$", ast.unparse(node.func))
        and any(isinstance(given, ast.Constant) and re.search(r"(^|[.:])_\w+$", str(given.value)) for given in node.args[:2])
    ]

    assert replaced == []
