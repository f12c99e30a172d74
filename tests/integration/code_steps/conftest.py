"""A run whose code steps act on real repositories with a remote each."""

import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.config.plan import Plan, Repository
from runbook_lib.config.target import Target
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_target
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState

from ...support.code_steps import Run, git
from ...support.places import TARGET
from ...support.sample import SOUND, create_backend, create_frontend

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    names = ("BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN")
    environment = {f"REHEARSAL_{name}": f"http://{name.lower()}.test" for name in names}
    environment |= {"REHEARSAL_ROOT": str(tmp_path), "REHEARSAL_PYTHON": sys.executable, "REHEARSAL_APPLICATION_ROLE": "app"}
    return load_target(TARGET, environment)


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("repositories")
    create_backend(made / "backend", SOUND)
    create_frontend(made / "frontend", SOUND)
    return made


@pytest.fixture
def make(plan: Plan, target: Target, repositories: Path, tmp_path: Path) -> Callable[..., Run]:
    """A run on fresh repositories, with what a test changes in plan or target."""

    def made(repository: Repository | None = None, **changed: Any) -> Run:
        for name in ("backend", "frontend"):
            shutil.copytree(repositories / name, tmp_path / name)
            shutil.copytree(repositories / f"{name}.git", tmp_path / f"{name}.git")
            git(tmp_path / name, "remote", "set-url", "origin", str(tmp_path / f"{name}.git"))
            git(tmp_path / name, "status")  # the index knows the copies again
        changed_repositories = {**plan.repositories, "frontend": repository or plan.repositories["frontend"]}
        own = target.repositories["frontend"].model_copy(update=changed)
        where = target.model_copy(update={"repositories": {**target.repositories, "frontend": own}})
        folder = RunFolder.create(tmp_path / "outputs", "INC-1", "full")
        what = plan.model_copy(update={"repositories": changed_repositories})
        state = RunState({"option": "A"}, AT.isoformat(), "full")
        return Run(Context(what, where, folder, Adapters(where, folder), state, "Dana"))

    return made


@pytest.fixture
def run(make: Callable[..., Run]) -> Run:
    return make()


@pytest.fixture
def resettable(run: Run) -> Run:
    """A run with CODE=reset on a frontend on which nothing lies on top of the feature."""
    run.git("reset", "--quiet", "--hard", "HEAD~1")
    run.git("push", "--quiet", "--force", "origin", "main")
    run.now(choices={"CODE": "reset"})
    return run
