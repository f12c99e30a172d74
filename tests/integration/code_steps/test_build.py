"""The build of code that was taken back, and its caches."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.context import old_code
from runbook_lib.errors import AdapterError, PreconditionError

from ...support.code_steps import BUILD, PUSH, REVERT, Run


def npm_package(run: Run, build: str = "mkdir -p .next && node build.js") -> None:
    needs = '"dependencies": {"own": "file:own"}'
    package = f'{{"name": "frontend", "version": "1.0.0", {needs}, "scripts": {{"build": "{build}"}}}}'
    packages = f'"": {{"name": "frontend", {needs}}}, "own": {{}}, "node_modules/own": {{"resolved": "own", "link": true}}'
    lock = f'{{"name": "frontend", "version": "1.0.0", "lockfileVersion": 3, "packages": {{{packages}}}}}'
    script = "const fs = require('fs'); fs.appendFileSync('.next/built', 'once ');\nconsole.log('compiled it');\n"
    (run.path() / "own").mkdir()
    own = {"own/package.json": '{"name": "own", "version": "1.0.0"}'}
    run.commit("Build with npm", **{"package.json": package, "package-lock.json": lock, "build.js": script, **own})
    (run.path() / ".git" / "info").mkdir(exist_ok=True)
    (run.path() / ".git" / "info" / "exclude").write_text(".next\nnode_modules\n")


NPM = {"install": ["npm", "ci", "--no-audit", "--no-fund"], "build": ["npm", "run", "build"], "artifact": None}


def test_npm_installs_and_builds_with_the_cache_cleared(make: Callable[..., Run]) -> None:
    run = make(**NPM)
    npm_package(run)
    (run.path() / ".next").mkdir()
    (run.path() / ".next" / "built").write_text("stale ")
    (run.path() / "node_modules").mkdir()
    (run.path() / "node_modules" / "stale.js").touch()
    run.approve(REVERT, BUILD)
    run.apply(REVERT)

    left = run.apply(BUILD)

    assert (run.path() / ".next" / "built").read_text() == "once "
    assert not (run.path() / "node_modules" / "stale.js").exists()
    assert (run.path() / "node_modules" / "own" / "package.json").is_file()  # a link, which leads where it did
    said = (run.context.folder.path / left["output"]).read_text()
    assert said.index("$ npm ci") < said.index("$ npm run build") < said.index("compiled it")
    assert run.told
    assert "remove .next if present" in run.step(BUILD).preview().would


def test_a_build_that_changes_a_tracked_file_does_not_stop_the_rest(make: Callable[..., Run]) -> None:
    run = make(build=["sh", "-c", "echo built >>README.md"], artifact=None)
    run.approve(REVERT, BUILD, PUSH)
    run.apply(REVERT)
    run.apply(BUILD)

    assert run.step(PUSH).preview().facts == run.context.state.approved_facts(PUSH)
    assert old_code.prepare(run.context, "frontend").commit == run.context.state.approved_facts(REVERT)["commit"]


def test_the_output_of_a_failed_npm_is_kept_and_shown(make: Callable[..., Run]) -> None:
    run = make(**NPM)
    npm_package(run, "echo cannot find the module && exit 3")

    with pytest.raises(AdapterError, match=r"(?s)npm run build ended with exit code 3.*cannot find the module"):
        run.apply(BUILD)

    said = (run.context.folder.path / "evidence" / f"{BUILD}.txt").read_text()
    assert "cannot find the module" in said
    assert "[exit code 3 after" in said


def test_the_output_of_a_build_that_does_not_end_is_kept(make: Callable[..., Run]) -> None:
    command = [sys.executable, "-uc", "import time; print('compiling'); time.sleep(1000)"]
    run = make(build=command, timeout=1)

    with pytest.raises(AdapterError, match=r"(?s)did not end within 1 s.*compiling"):
        run.apply(BUILD)

    assert "compiling" in (run.context.folder.path / "evidence" / f"{BUILD}.txt").read_text()


def test_the_old_code_is_built_once_for_any_number_of_previews(make: Callable[..., Run], tmp_path: Path) -> None:
    run = make(build=["sh", "-c", f"echo built >>'{tmp_path}/builds'"], artifact=None)

    run.step(BUILD).preview()
    run.step(BUILD).preview()

    assert (tmp_path / "builds").read_text().count("built") == 1


def clearing(run: Run, path: str) -> None:
    spec = run.context.plan.steps[BUILD].model_copy(update={"clear": [path]})
    run.context.plan = run.context.plan.model_copy(update={"steps": {**run.context.plan.steps, BUILD: spec}})
    run.apply(BUILD)


def test_a_cache_that_is_a_link_is_not_followed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (run.path() / "link").symlink_to(tmp_path / "precious")

    for path in ("link", "link/file"):
        with pytest.raises(PreconditionError, match="is a link to another place"):
            clearing(run, path)

    assert (tmp_path / "precious" / "file").exists()


def test_a_cache_that_leads_out_of_the_repository_is_not_removed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()

    with pytest.raises(PreconditionError, match="leads out of the repository"):
        clearing(run, "../precious")

    assert (tmp_path / "precious").exists()


def test_files_that_git_tracks_are_no_cache(run: Run) -> None:
    with pytest.raises(PreconditionError, match="git tracks files in it"):
        clearing(run, "src")

    assert run.git("status", "--porcelain") == ""
