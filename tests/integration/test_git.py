"""Taking commits back in real repositories."""

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.git import Checkout, Commit
from runbook_lib.history.commits import make, take_back
from runbook_lib.rehearsal.stack_file import Fault
from runbook_lib.system.processes import LocalProcesses

from ..support.sample import FAULTS, FEATURE, SOUND, create_backend

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BY = "Ada"


@pytest.fixture
def deployed(tmp_path: Path) -> Checkout:
    create_backend(tmp_path / "backend", SOUND)
    return Checkout(tmp_path / "backend", LocalProcesses())


def git(checkout: Checkout, *arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(
        command, cwd=checkout.path, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def reverted(deployed: Checkout, path: Path) -> Checkout:
    scratch = deployed.scratch(path)
    assert make(take_back(deployed, FEATURE, deployed.head()), scratch, BY, AT) == ([], None)
    return scratch


def to_revert(deployed: Checkout) -> list[Commit]:
    return list(take_back(deployed, FEATURE, deployed.head()).reverts)


def move(deployed: Checkout, scratch: Checkout) -> None:
    deployed.bring(scratch.path, scratch.head())
    deployed.forward_to(scratch.head())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_feature_goes_and_later_work_stays(tmp_path: Path, fault: Fault) -> None:
    create_backend(tmp_path / "backend", fault)
    deployed = Checkout(tmp_path / "backend", LocalProcesses())

    scratch = reverted(deployed, tmp_path / "scratch")

    later = deployed.head()
    move(deployed, scratch)
    assert to_revert(deployed) == []
    assert git(deployed, "diff", "v1.4.0", "HEAD") == git(deployed, "diff", f"{later}~1", later)


def test_the_same_run_gives_the_same_commit(deployed: Checkout, tmp_path: Path) -> None:
    assert reverted(deployed, tmp_path / "one").head() == reverted(deployed, tmp_path / "two").head()


def test_a_clone_is_asked_once_about_commits_named_by_full_ids(deployed: Checkout, tmp_path: Path) -> None:
    clone, head = deployed.scratch(tmp_path / "clone"), deployed.head()
    said = clone.log(head), clone.between(head, head), clone.holds(head, head)

    shutil.rmtree(clone.path)

    assert (clone.log(head), clone.between(head, head), clone.holds(head, head)) == said


def test_a_clone_learns_of_a_commit_that_is_brought(deployed: Checkout, tmp_path: Path) -> None:
    clone, other = deployed.scratch(tmp_path / "clone"), deployed.scratch(tmp_path / "other")
    git(other, "commit", "--quiet", "--allow-empty", "--message=new")
    before = clone.resolved(other.head())

    clone.bring(other.path, other.head())

    assert (before, clone.resolved(other.head())) == ("", other.head())


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

    move(deployed, scratch)
    assert deployed.head() == scratch.head()

    deployed.back_to(before)
    assert deployed.head() == before
    assert deployed.changed_files() == []


def test_a_conflict_with_later_work_names_the_files_and_changes_nothing(deployed: Checkout, tmp_path: Path) -> None:
    feature = to_revert(deployed)[0]
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
        move(deployed, scratch)

    assert deployed.head() == head


def test_a_commit_of_which_nothing_is_left_is_no_conflict(deployed: Checkout, tmp_path: Path) -> None:
    feature = to_revert(deployed)[0]
    git(deployed, "revert", "--no-commit", feature.id)
    git(deployed, "commit", "--message=Taken back in other words")
    scratch = deployed.scratch(tmp_path / "scratch")

    assert scratch.revert(feature, BY, AT) is False
    assert scratch.head() == deployed.head()
    assert git(scratch, "status", "--porcelain") == ""


# --- what is in the way, a message each


def in_the_way(checkout: Checkout) -> str:
    with pytest.raises(PreconditionError) as caught:
        checkout.require_ready()
    assert caught.value.safe_next
    assert caught.value.state == "The checkout was not touched."
    return caught.value.what


def change(checkout: Checkout) -> str:
    file = checkout.path / checkout.files(".")[0]
    file.write_text("changed\n")
    return file.name


def test_a_clean_checkout_on_its_branch_is_ready(deployed: Checkout) -> None:
    (deployed.path / "untracked.txt").write_text("no harm\n")

    deployed.require_ready()


def test_uncommitted_changes_are_named(deployed: Checkout) -> None:
    name = change(deployed)

    assert in_the_way(deployed) == f"{deployed.path} has uncommitted changes: {name}."


def test_a_detached_head_is_named(deployed: Checkout) -> None:
    git(deployed, "switch", "--detach", "v1.4.0")

    assert "is on no branch (detached at " in in_the_way(deployed)


def test_a_shallow_clone_is_named(deployed: Checkout, tmp_path: Path) -> None:
    git(deployed, "clone", "--quiet", "--depth=1", f"file://{deployed.path}", str(tmp_path / "shallow"))

    assert "is a shallow clone" in in_the_way(Checkout(tmp_path / "shallow", LocalProcesses()))


def test_a_path_without_anything_is_named(tmp_path: Path) -> None:
    assert in_the_way(Checkout(tmp_path / "none", LocalProcesses())) == f"There is no directory {tmp_path / 'none'}."


def test_a_directory_that_is_no_repository_is_named(tmp_path: Path) -> None:
    assert "is not the work tree of a git repository (fatal: not a git repository" in in_the_way(
        Checkout(tmp_path, LocalProcesses())
    )


def test_a_folder_of_a_larger_repository_is_named(deployed: Checkout) -> None:
    assert f"is a folder inside the work tree {deployed.path}" in in_the_way(
        Checkout(deployed.path / "migrations", LocalProcesses())
    )


@pytest.mark.parametrize("command", ["merge", "revert", "rebase", "cherry-pick"])
def test_what_was_begun_and_not_ended_is_named(deployed: Checkout, command: str) -> None:
    file = change(deployed)
    git(deployed, "commit", "--all", "--message=One")
    git(deployed, "switch", "--quiet", "--create", "other", "HEAD~1")
    (deployed.path / file).write_text("otherwise\n")
    git(deployed, "commit", "--all", "--message=Other")
    (deployed.path / file).write_text("and once more\n")
    git(deployed, "commit", "--all", "--message=Another")
    with pytest.raises(subprocess.CalledProcessError):
        git(deployed, command, "HEAD~1" if command == "revert" else "main")

    assert in_the_way(deployed) == f"A {command} was begun in {deployed.path} and not finished."


def test_a_lock_of_another_git_is_named(deployed: Checkout) -> None:
    (deployed.path / ".git" / "index.lock").touch()

    assert "Another git runs in" in in_the_way(deployed)


def test_a_branch_that_follows_no_remote_is_named(deployed: Checkout) -> None:
    git(deployed, "remote", "remove", "origin")

    with pytest.raises(PreconditionError, match=r"The branch main of .* has no upstream branch") as caught:
        deployed.remote()

    assert "git branch --set-upstream-to=REMOTE/main" in caught.value.safe_next


# --- remotes


def test_looking_at_a_remote_that_moved_writes_nothing_into_the_checkout(deployed: Checkout, tmp_path: Path) -> None:
    tip = moved(deployed, tmp_path)
    scratch = deployed.scratch(tmp_path / "scratch")
    before = {p: p.read_bytes() for p in deployed.path.rglob("*") if p.is_file()}

    remote = deployed.remote()
    remote.bring(remote.tip(), scratch.path)

    assert (remote.tip(), scratch.log(tip)[0].subject) == (tip, "Somebody else's")
    assert {p: p.read_bytes() for p in deployed.path.rglob("*") if p.is_file()} == before


def test_a_push_never_replaces_what_somebody_else_pushed(deployed: Checkout, tmp_path: Path) -> None:
    before = deployed.remote().tip()
    tip = moved(deployed, tmp_path)
    git(deployed, "commit", "--allow-empty", "--message=Ours")

    for replacing in ("", before):
        with pytest.raises(AdapterError, match="rejected"):
            deployed.remote().push(deployed.head(), replacing=replacing)

    assert deployed.remote().tip() == tip


def moved(deployed: Checkout, tmp_path: Path) -> str:
    """Have somebody else push to the remote; returns where it is then."""
    git(deployed, "clone", "--quiet", git(deployed, "remote", "get-url", "origin"), str(tmp_path / "elsewhere"))
    other = Checkout(tmp_path / "elsewhere", LocalProcesses())
    git(other, "commit", "--allow-empty", "--message=Somebody else's")
    git(other, "push", "--quiet")
    return other.head()
