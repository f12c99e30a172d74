"""The required keys of a stack's file, and the error where it cannot be brought up."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runbook_lib.config.target import pair
from runbook_lib.documents import load_plan, load_target
from runbook_lib.errors import ParametersError, PreconditionError
from runbook_lib.rehearsal import npm_ci
from runbook_lib.rehearsal.managers import compose, pm2
from runbook_lib.rehearsal.scenarios import SCENARIOS
from runbook_lib.rehearsal.stack_file import FOLDER, load_stack, named, names

from ..support.places import ROOT

VARIABLES = ("ROOT", "PG_BIN", "PYTHON", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN")
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not here: it comes with Node.js")
OF_MANAGERS = ("PM2", "PM2_HOME", "COMPOSE", "DOCKER_HOST")


def test_a_variable_that_nobody_sets_is_named_with_its_line() -> None:
    with pytest.raises(ParametersError, match=r"The environment has no REHEARSAL_\w+, which .*sample.yaml takes") as caught:
        named("sample").require_variables({})

    assert caught.value.where.startswith(f"{FOLDER / 'sample.yaml'}, line ")


@pytest.mark.parametrize("name", names())
def test_plan_target_and_stack_fit_one_another(name: str) -> None:
    stack = named(name)
    plan = load_plan(stack.plan_file)
    environment = {f"REHEARSAL_{variable}": "http://localhost:1" for variable in (*VARIABLES, *OF_MANAGERS)}
    environment["REHEARSAL_APPLICATION_ROLE"] = "application"
    target = load_target(stack.target_file, environment)

    pair(plan, target, stack.target_file)
    assert set(stack.health) == set(plan.services)
    assert set(stack.repositories) == set(target.repositories) == set(plan.repositories)
    assert target.services.manager == stack.services.manager
    for repository, described in target.repositories.items():
        assert set(stack.ignored.get(repository, {})) == set(described.build_files or [])


@pytest.mark.parametrize("name", names())
def test_what_a_stack_names_is_in_its_sources(name: str) -> None:
    stack = named(name)
    assert {scenario.fault for scenario in SCENARIOS.values()} <= stack.faults.keys()
    for fault in stack.faults.values():
        for patch in fault.patches.values():
            stack.source("faults", f"{patch}.patch")
        if fault.data:
            stack.source("faults", f"{fault.data}.sql")
    for repository in stack.repositories:
        ours = {path for path in (stack.folder / stack.sources[0] / repository).rglob("*") if path.is_file()}
        added = [file for event in stack.repositories[repository].history for file in getattr(event, "add", [])]
        assert ours <= {stack.source(repository, file) for file in added}


def test_a_stack_has_what_it_does_not_say_from_the_one_that_it_extends(tmp_path: Path) -> None:
    for name in names():
        (tmp_path / f"{name}.yaml").write_text((FOLDER / f"{name}.yaml").read_text())
    own = tmp_path / "own.yaml"
    own.write_text("extends: compose\nabout: Ours\n")

    assert {**load_stack(own).model_dump(), "about": ""} == {**named("compose").model_dump(), "about": ""}


def test_a_wrong_key_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text((FOLDER / "sample.yaml").read_text().replace("ports:", "prots:"))
    with pytest.raises(ParametersError) as raised:
        load_stack(file)
    assert "own.yaml" in raised.value.what
    assert "prots: unknown key" in raised.value.what


def test_without_root_docker_compose_is_refused_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PreconditionError, match="only root may"):
        named("compose").require()


def test_variables_of_a_fault_reach_one_service_under_compose() -> None:
    services = named("compose").services.with_environment({"backend": {"FLAG": "${HOME}"}})
    assert isinstance(services, compose.UnderCompose)
    made = yaml.safe_load(services.as_text(named("compose").folder / services.project, {"HOME": "on"}))["services"]

    assert {name: one["environment"].get("FLAG") for name, one in made.items()} == {
        **dict.fromkeys(made),
        "backend": "on",
    }
    assert made["backend"]["environment"]["PORT"] == "${REHEARSAL_BACKEND_PORT}"


@needs_npm
def test_variables_of_a_fault_reach_one_service_under_pm2(tmp_path: Path) -> None:
    services = named("node").services.with_environment({"backend": {"FLAG": "${HOME}"}})
    assert isinstance(services, pm2.UnderPm2)
    file = tmp_path / "pm2.config.cjs"
    file.write_text(services.as_text(named("node").folder, {"HOME": "on"}))

    shown = "console.log(JSON.stringify(require(process.argv[1]).apps.map((app) => [app.name, app.env])))"
    environment = {**os.environ, "REHEARSAL_BACKEND_PORT": "5000"}
    done = subprocess.run(["node", "-e", shown, file], env=environment, capture_output=True, text=True, check=True)
    made = dict(json.loads(done.stdout))
    assert {name: env.get("FLAG") for name, env in made.items()} == {**dict.fromkeys(made), "backend": "on"}
    assert made["backend"]["PORT"] == "5000"


@pytest.mark.parametrize(("name", "installs"), [("node", ".ci/setup node"), ("compose", ".ci/setup compose")])
def test_a_missing_manager_is_named_with_what_installs_it(
    name: str, installs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for program in ("git", "node", "npm", "dockerd", "docker"):
        (tmp_path / program).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for module in (pm2, compose):
        monkeypatch.setattr(module.sys, "prefix", str(tmp_path))
    with pytest.raises(PreconditionError) as raised:
        named(name).require()
    assert installs in raised.value.safe_next


def test_the_lock_files_name_no_registry() -> None:
    locks = [*(ROOT / "runbook_lib" / "rehearsal" / "node").rglob("package-lock.json")]
    packages = [package for lock in locks for package in json.loads(lock.read_text())["packages"].values()]
    assert len(packages) > 100
    assert [package for package in packages if "resolved" in package] == []


def package(folder: Path) -> Path:
    folder.mkdir()
    (folder / "package.json").write_text('{"name": "empty", "version": "1.0.0"}')
    lock = {
        "name": "empty",
        "version": "1.0.0",
        "lockfileVersion": 3,
        "packages": {"": {"name": "empty", "version": "1.0.0"}},
    }
    (folder / "package-lock.json").write_text(json.dumps(lock))
    return folder


@needs_npm
def test_packages_are_installed_once_for_a_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm_ci, "CACHE", tmp_path / "cache")
    npm_ci.install(package(tmp_path / "one"))
    (kept,) = (tmp_path / "cache").glob("*/node_modules")
    (kept / "installed.js").write_text("once")
    other = package(tmp_path / "other")
    (other / "node_modules").mkdir()
    (other / "node_modules" / "left-over.js").touch()

    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no npm
    npm_ci.install(other)

    assert [path.name for path in (other / "node_modules").iterdir()] == ["installed.js"]


@needs_npm
def test_what_npm_refuses_is_said_by_npm_alone(tmp_path: Path) -> None:
    (package(tmp_path / "one") / "package-lock.json").unlink()
    command = [sys.executable, "-m", "runbook_lib.rehearsal.npm_ci"]
    done = subprocess.run(command, cwd=tmp_path / "one", capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "npm ci" in done.stderr
    assert "Traceback" not in done.stderr
