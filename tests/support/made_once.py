"""Clusters and repositories that are copies of what this process made for an earlier test."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import pytest

from runbook_lib.rehearsal import postgres, repositories, stack
from runbook_lib.rehearsal.postgres import Server
from runbook_lib.rehearsal.stack_file import SAMPLE, Fault, StackFile, named


class MadeOnce:
    """Replaces `initialise` and `build` of a stack.

    The copies of a cluster have one superuser password and one system identifier.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._clusters: dict[Path, tuple[Path, Server]] = {}  # the programs -> a cluster that was never started, its server
        self._repositories: dict[str, Path] = {}  # stack, releases, patches, whether built -> where

    def initialise(self, root: Path) -> Server:
        tools, data = postgres.binaries(), root / "pg" / "data"
        if tools not in self._clusters:
            made = postgres.initialise(root)
            self._clusters[tools] = Path(mkdtemp(dir=self._place)) / "data", made
            shutil.copytree(data, self._clusters[tools][0])
            return made
        copy, made = self._clusters[tools]
        data.parent.mkdir(mode=0o700)
        shutil.copytree(copy, data)
        return Server({**made.parameters, "host": str(data.parent)}, made.tools)

    def build(self, described: StackFile, root: Path, fault: Fault, environment: Mapping[str, str]) -> None:
        self._copied(described, root, fault, lambda made: repositories.build(described, made, fault, environment), "built")

    def create(self, root: Path, fault: Fault) -> None:
        """The repositories of the sample below `root`, each with its remote; nothing is built."""
        self._copied(named(SAMPLE), root, fault, lambda made: _create(made, fault), "created")

    def _copied(self, described: StackFile, root: Path, fault: Fault, make: Callable[[Path], None], how: str) -> None:
        releases = [repositories.release(described, name) for name in described.repositories]
        key = f"{described.about} {releases} {fault.patches} {how}"
        if key not in self._repositories:
            made = Path(mkdtemp(dir=self._place))
            make(made)
            self._repositories[key] = made
        names = list(described.repositories)
        for name in (*names, *(f"{name}.git" for name in names)):
            shutil.copytree(self._repositories[key] / name, root / name, symlinks=True)
        for name in names:
            _git(root / name, "remote", "set-url", "origin", str(root / f"{name}.git"))
            _git(root / name, "update-index", "--refresh")  # the index knows the copies again


_now: list[MadeOnce] = []


@contextmanager
def made_once() -> Iterator[MadeOnce]:
    """One for all that asks for copies from now on, and for every stack that this process brings up."""
    with TemporaryDirectory(prefix="made-once-") as place, pytest.MonkeyPatch.context() as patched:
        _now.append(MadeOnce(Path(place)))
        patched.setattr(stack, "initialise", _now[-1].initialise)
        patched.setattr(stack, "build", _now[-1].build)
        yield _now[-1]
        _now.clear()


@contextmanager
def each_its_own() -> Iterator[None]:
    """Every stack makes its own again."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stack, "initialise", postgres.initialise)
        patched.setattr(stack, "build", repositories.build)
        yield


def sample_repositories(root: Path, fault: Fault) -> None:
    """Make both repositories of the sample below `root`, each with its remote."""
    make: Callable[[Path, Fault], None] = _now[-1].create if _now else _create
    make(root, fault)


def _create(root: Path, fault: Fault) -> None:
    described = named(SAMPLE)
    for name in described.repositories:
        repositories.create(described, name, root / name, fault)


def _git(directory: Path, *arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", *arguments], cwd=directory, env=environment, check=True, capture_output=True)
