"""Taking commits back in real repositories."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runbook_lib.adapters.git import Checkout
from runbook_lib.adapters.processes import LocalProcesses
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.rehearsal.faults import FAULTS, Fault
from runbook_lib.rehearsal.repositories import FEATURE, create_backend
from runbook_lib.reverts import commits_to_revert

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BY = "Ada"


@pytest.fixture
def deployed(tmp_path: Path) -> Checkout:
    create_backend(tmp_path / "backend", FAULTS[0])
    return Checkout(tmp_path / "backend", LocalProcesses())


def git(checkout: Checkout, *arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(
        command, cwd=checkout.path, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def reverted(deployed: Checkout, path: Path) -> Checkout:
    scratch = deployed.scratch(path)
    for commit in commits_to_revert(deployed.log(), FEATURE, deployed.brought_by):
        scratch.revert(commit, BY, AT)
    return scratch


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_feature_goes_and_later_work_stays(tmp_path: Path, fault: Fault) -> None:
    create_backend(tmp_path / "backend", fault)
    deployed = Checkout(tmp_path / "backend", LocalProcesses())

    scratch = reverted(deployed, tmp_path / "scratch")

    later = deployed.head()
    deployed.forward_to(scratch.path, scratch.head())
    assert commits_to_revert(deployed.log(), FEATURE, deployed.brought_by) == []
    assert git(deployed, "diff", "v1.4.0", "HEAD") == git(deployed, "diff", f"{later}~1", later)


def test_the_same_run_gives_the_same_commit(deployed: Checkout, tmp_path: Path) -> None:
    assert reverted(deployed, tmp_path / "one").head() == reverted(deployed, tmp_path / "two").head()


def test_a_scratch_clone_writes_nothing_into_the_deployed_repository(deployed: Checkout, tmp_path: Path) -> None:
    before = sorted(p.relative_to(deployed.path) for p in deployed.path.rglob("*"))

    reverted(deployed, tmp_path / "scratch")

    assert sorted(p.relative_to(deployed.path) for p in deployed.path.rglob("*")) == before


def test_the_migrations_file_is_kept_with_its_schema(deployed: Checkout, tmp_path: Path) -> None:
    scratch = reverted(deployed, tmp_path / "scratch")
    gone = scratch.deleted_below(deployed.head(), "migrations")

    scratch.keep(gone, deployed.head(), "Keep it", BY, AT)

    assert [Path(name).name[:3] for name in gone] == ["039"]
    assert gone[0] in scratch.files("migrations")


def test_forward_and_back(deployed: Checkout, tmp_path: Path) -> None:
    before = deployed.head()
    scratch = reverted(deployed, tmp_path / "scratch")

    deployed.forward_to(scratch.path, scratch.head())
    assert deployed.head() == scratch.head()

    deployed.back_to(before)
    assert deployed.head() == before
    assert deployed.changed_files() == []


def test_a_conflict_with_later_work_names_the_files_and_leaves_the_tree_as_it_was(
    deployed: Checkout, tmp_path: Path
) -> None:
    feature = commits_to_revert(deployed.log(), FEATURE, deployed.brought_by)[0]
    file = git(deployed, "show", "--format=", "--name-only", feature.id).splitlines()[0]
    (deployed.path / file).write_text("something else altogether\n")
    git(deployed, "commit", "--all", "--message=Rewrite")
    scratch = deployed.scratch(tmp_path / "scratch")

    with pytest.raises(PreconditionError, match="conflicts with later work") as caught:
        scratch.revert(feature, BY, AT)

    assert file in str(caught.value)
    assert scratch.head() == deployed.head()
    assert scratch.changed_files() == []


def test_a_branch_that_moved_is_not_moved_forward(deployed: Checkout, tmp_path: Path) -> None:
    scratch = reverted(deployed, tmp_path / "scratch")
    (deployed.path / "new.txt").write_text("later\n")
    git(deployed, "add", "new.txt")
    git(deployed, "commit", "--message=Later")
    head = deployed.head()

    with pytest.raises(AdapterError):
        deployed.forward_to(scratch.path, scratch.head())

    assert deployed.head() == head


def test_uncommitted_changes_are_seen(deployed: Checkout) -> None:
    file = deployed.path / deployed.files(".")[0]
    file.write_text("changed\n")

    assert [line.split()[-1] for line in deployed.changed_files()] == [file.name]
