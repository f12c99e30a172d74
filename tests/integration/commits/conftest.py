"""A repository whose history a test writes, and `runbook commits` on it."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runbook_lib.cli import commands

from ...support.repository import FEATURE, Look, Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "shop")


@pytest.fixture
def look(repository: Repository) -> Look:
    """What the command prints as JSON, with its exit code as `exit`; the result is kept as a branch unless `plain`."""
    branches = (f"result-{n}" for n in count())

    def looked(*arguments: str, plain: bool = False) -> dict[str, Any]:
        common = ["commits", "--repository", str(repository.path), "--feature", FEATURE, "--json"]
        kept = [] if plain else ["--branch", next(branches)]
        done = CliRunner().invoke(commands, [*common, *kept, *arguments], catch_exceptions=False)
        return {**json.loads(done.stdout), "exit": done.exit_code}

    return looked
