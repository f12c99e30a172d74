"""Kinds of step, check, manager and place of records that another package brings: installed, planned, applied and undone."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..support import quick_site
from ..support.quick_site import Site

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-kinds"
version = "1"

[project.entry-points."runbook_lib.steps"]
note = "acme_note"

[project.entry-points."runbook_lib.checks"]
noted = "acme_noted"

[project.entry-points."runbook_lib.managers"]
files = "acme_files"

[project.entry-points."runbook_lib.records"]
shelf = "acme_shelf"

[tool.hatch.build.targets.wheel]
include = ["*.py"]
"""
NOTE = '''
from pathlib import Path
from typing import Literal

from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.plan.steps import About, StepSpec, Touches
from runbook_lib.results import Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.by_hand import Instruction, in_words


class NoteKeys(StepSpec):
    """Leave a note in a file."""

    kind: Literal["note"]
    file: str

    requires = ()
    about = About(
        title="Leave a note",
        estimate=1,
        does="Writes a file.",
        expect="The file is there.",
        if_not="Look whether the folder is.",
        preserves="Nothing else is written.",
        reversible=True,
        log_line="Note left",
        starts=False,
        starts_on_undo=False,
        in_the_way=False,
        on_table="",
    )

    def touches(self) -> Touches:
        return Touches(changes=frozenset({"the note"}))

    def after(self, state: State, rules: Rules) -> State:
        return state


class Note(Step):
    """Leaves a note."""

    Keys = NoteKeys

    @property
    def path(self) -> Path:
        return Path(self.spec.file)

    def preview(self) -> Preview:
        return Preview(self.name, self.title, would=[f"write {self.path}"], undone_by="removing it", estimate=1)

    def needs(self) -> list[Precondition]:
        def look():
            return (Status.PASS if self.path.parent.is_dir() else Status.FAIL), str(self.path.parent)

        return [self.need("folder", "The folder is there", When.BEFOREHAND, look)]

    def by_hand(self, preview: Preview) -> list[Instruction]:
        return [in_words("Do it.")]

    def probe(self) -> Probe:
        return Probe(Effect.DONE if self.path.exists() else Effect.NOT_DONE, str(self.path))

    def apply(self) -> Facts:
        self.path.write_text("noted")
        return {"file": str(self.path)}

    def verify(self) -> list[Result]:
        return [self.result("there", "The note is there", self.needs()[0].look()[0], str(self.path))]

    def undo(self) -> Facts:
        self.path.unlink()
        return {}
'''
NOTED = '''
from typing import Literal

from runbook_lib.checks import check
from runbook_lib.config.plan import CheckSpec
from runbook_lib.results import Status


class NotedKeys(CheckSpec):
    """Whether a note was left."""

    kind: Literal["noted"]
    text: str

    area = "Services"
    requires = ()


@check(NotedKeys)
def noted(checked, name):
    file = next(spec.file for spec in checked.context.specs.values() if spec.kind == "note")
    found = open(file).read()
    return checked.result(name, Status.PASS if found == checked.context.plan.checks[name].text else Status.FAIL, found)
'''
FILES = '''
from typing import Literal

from runbook_lib.services.commands import CommandServices, CommandsTarget


class FilesTarget(CommandsTarget):
    """Services that are files."""

    manager: Literal["files"]


class Files(CommandServices):
    """Services that are files."""

    Keys = FilesTarget
'''


SHELF = '''
from typing import Literal

from runbook_lib.records.folder import FolderKeys, FolderRecords


class ShelfKeys(FolderKeys):
    """A shelf that keeps records."""

    kind: Literal["shelf"]


class Shelf(FolderRecords):
    """Records on a shelf."""

    Keys = ShelfKeys

    def __str__(self):
        return f"the shelf {self.path.name}"
'''


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, installed by pip into a folder of its own."""
    source, into = tmp_path_factory.mktemp("acme"), tmp_path_factory.mktemp("site-packages")
    (source / "pyproject.toml").write_text(PROJECT)
    for name, text in (("note", NOTE), ("noted", NOTED), ("files", FILES), ("shelf", SHELF)):
        (source / f"acme_{name}.py").write_text(text)
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "--no-index", "--target", str(into), str(source)], check=True)
    return into


def using(site: Site, installed: Path, **check: Any) -> Site:
    """A site whose plan has the step and the check, and whose target the manager."""
    plan, target = yaml.safe_load(site.plan_file.read_text()), yaml.safe_load(site.target_file.read_text())
    plan["steps"]["leave-note"] = {"kind": "note", "file": str(site.root / "note")}
    plan["checks"]["noted"] = {"kind": "noted", "title": "A note was left", "text": "noted", **check}
    plan["types"]["frontend"] |= {"steps": ["leave-note", "restart-frontend"], "checks": ["noted"]}
    target["services"]["manager"] = "files"
    target["records"] = {"kind": "shelf", "path": str(site.root / "rehearsals")}
    site.plan_file.write_text(yaml.safe_dump(plan, sort_keys=False))
    site.target_file.write_text(yaml.safe_dump(target, sort_keys=False))
    site.environment["PYTHONPATH"] = str(installed)
    return site


ROLLBACK = """
import sys
from pathlib import Path
from runbook_lib import records
from runbook_lib.run import engine, lifecycle

plan, target, outputs = map(Path, sys.argv[1:])
run = lifecycle.open_new(plan, target, "frontend", operator="Ann", reason="a note is missing", outputs=outputs)
digest, previews = run.previews()
print(previews[0].title, previews[0].would)
print("records on", records.of_target(run.context.target, outputs))
run.approve(digest, "Ann")
for step in ("leave-note", "restart-frontend"):
    engine.apply(run, step)
lifecycle.verify(run)
lifecycle.write_archive(run)
print((run.folder.path / "rollback-log.md").read_text())
engine.undo(run, "restart-frontend")
engine.undo(run, "leave-note")
print("undone")
"""


def rolled_back(site: Site) -> str:
    command = [sys.executable, "-P", "-c", ROLLBACK, str(site.plan_file), str(site.target_file), str(site.root / "outputs")]
    environment = {**os.environ, **site.environment}
    done = subprocess.run(command, env=environment, cwd=site.root, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_kinds_of_another_package_are_previewed_applied_logged_and_undone(tmp_path: Path, installed: Path) -> None:
    site = using(quick_site.make(tmp_path / "site"), installed)

    said = rolled_back(site)

    assert f"Leave a note ['write {site.root}/note']" in said
    assert "records on the shelf rehearsals" in said
    assert ("- [x] Note left" in said, "- [x] Verification completed" in said) == (True, True), said
    assert (said.endswith("undone\n"), (site.root / "note").exists()) == (True, False), said


def test_a_check_of_another_package_fails_the_rollback(tmp_path: Path, installed: Path) -> None:
    site = using(quick_site.make(tmp_path / "site"), installed, text="something else")

    said = rolled_back(site)

    assert "Verification completed (A note was left (FAIL: noted))" in said


def test_keys_of_a_kind_that_is_not_installed_are_named(tmp_path: Path, installed: Path) -> None:
    site = using(quick_site.make(tmp_path / "site"), installed)
    del site.environment["PYTHONPATH"]

    code, said = site.command("plan", "--plan", str(site.plan_file), "--target", str(site.target_file), "--type", "frontend")

    assert code == 2
    assert "steps.leave-note" in said and "'note'" in said


def test_a_package_whose_module_is_broken_is_named_before_any_change(tmp_path: Path, installed: Path) -> None:
    site = using(quick_site.make(tmp_path / "site"), installed)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "acme_note.py").write_text("import no_such_module")
    site.environment["PYTHONPATH"] = f"{broken}:{installed}"

    code, said = site.command("plan", "--plan", str(site.plan_file), "--target", str(site.target_file), "--type", "frontend")

    assert code == 2
    assert "acme_note, which the package acme-kinds names in runbook_lib.steps, cannot be imported" in said
    assert "Traceback" not in said
