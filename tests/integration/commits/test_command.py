"""`runbook commits` as a command: what it prints and refuses."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from runbook_lib.cli import commands
from runbook_lib.errors import ParametersError

from ...support.repository import FEATURE, Look, Repository


def test_it_prints_every_commit_with_what_is_done_and_the_id_of_the_result(repository: Repository, look: Look) -> None:
    made = repository.change("replies.js", "one", "SHOP-41: replies")
    repository.change("pay.js", "refunds", "PAY-7: refunds")

    found = look()

    assert (found["status"], found["exit"], found["asks"]) == ("ready", 0, [])
    (commit,) = found["commits"]
    assert commit.keys() == {"id", "subject", "found_by", "action", "why"}
    assert (commit["id"], commit["found_by"], commit["action"]) == (made, "subject", "revert")
    assert look()["result"] == found["result"]  # the same each time


def test_a_preview_changes_nothing_and_a_branch_adds_only_itself(repository: Repository, look: Look) -> None:
    repository.change("replies.js", "one", "SHOP-41: replies")
    (repository.path / "shared.js").write_text("not committed\n")  # a look needs no clean checkout
    files = {p: p.read_bytes() for p in repository.path.rglob("*") if p.is_file()}

    look(plain=True)
    assert {p: p.read_bytes() for p in repository.path.rglob("*") if p.is_file()} == files
    head = repository.git("rev-parse", "HEAD")
    found = look("--branch", "rollback/shop-41")

    assert (found["branch"], repository.git("rev-parse", "rollback/shop-41")) == ("rollback/shop-41", found["result"])
    assert (repository.git("rev-parse", "HEAD"), repository.git("branch", "--show-current")) == (head, "main")
    assert (repository.path / "shared.js").read_text() == "not committed\n"
    assert repository.files(found["result"]) == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--at", "nowhere"], "There is no commit nowhere"),
        (["--branch", "main"], "The branch main exists already"),
        (["--branch", "a..b"], "is not a valid branch name"),
        (["--include", "0123abc"], "There is no commit 0123abc"),
        (["--include", "HEAD", "--exclude", "HEAD"], "is both included and excluded"),
        (["--feature", " "], "The feature's id is empty"),
    ],
)
def test_wrong_use_is_one_clear_error(repository: Repository, look: Look, arguments: list[str], told: str) -> None:
    with pytest.raises(ParametersError, match=told) as caught:
        look(*arguments)

    assert (caught.value.exit_code, caught.value.state) == (2, "Nothing was changed.")


@pytest.mark.parametrize(("name", "told"), [("none", "There is no directory"), (".", "is not a git repository")])
def test_a_path_without_a_repository_is_named(tmp_path: Path, name: str, told: str) -> None:
    arguments = ["commits", "--repository", str(tmp_path / name), "--feature", FEATURE]

    with pytest.raises(ParametersError, match=told):
        CliRunner().invoke(commands, arguments, catch_exceptions=False)


def test_a_shallow_clone_is_refused(repository: Repository, look: Look, tmp_path: Path) -> None:
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.git("clone", "--quiet", "--depth=1", f"file://{repository.path}", str(tmp_path / "shallow"))

    found = look("--repository", str(tmp_path / "shallow"))

    assert (found["status"], found["exit"], found["result"]) == ("refused", 3, None)
    assert "fetch --unshallow" in found["refused_because"]


def test_it_works_in_a_bare_repository_in_a_folder_and_at_another_branch(
    repository: Repository, look: Look, tmp_path: Path
) -> None:
    repository.on("release/1")
    repository.change("src/replies.js", "one", "SHOP-41: replies")
    repository.git("clone", "--quiet", "--bare", str(repository.path), str(tmp_path / "bare.git"))

    results = {
        look("--repository", str(path), "--at", at, plain=True)["result"]
        for path, at in ((repository.path / "src", "HEAD"), (tmp_path / "bare.git", "release/1"))
    }

    assert len(results) == 1
    assert look("--at", "main")["status"] == "nothing"


def test_the_lines_for_a_person_fit_into_a_hundred_columns(repository: Repository) -> None:
    repository.change("replies.js", "one", f"SHOP-41: {'replies ' * 30}")
    repository.change("cards.js", "one", f"PAY-7: {'cards ' * 20} after SHOP-41")

    arguments = ["commits", "--repository", str(repository.path), "--feature", FEATURE]
    done = CliRunner().invoke(commands, arguments, catch_exceptions=False)

    assert max(map(len, done.stdout.splitlines())) <= 100
    assert done.exit_code == 4
    assert "--exclude" in done.stdout
