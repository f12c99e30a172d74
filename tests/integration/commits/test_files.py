"""Files of every kind are taken back, or refused by name."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from runbook_lib.git import Checkout
from runbook_lib.history.commits import make, take_back
from runbook_lib.history.decision import Refusal
from runbook_lib.history.merges import Rebuilt
from runbook_lib.system.processes import LocalProcesses

from ...support.repository import FEATURE, Look, Repository, refused


def test_lines_go_from_a_file_that_somebody_renamed(repository: Repository, look: Look) -> None:
    repository.change("shared.js", "feature", "SHOP-41: replies")
    repository.git("mv", "shared.js", "renamed.js")
    repository.commit("PAY-7: rename")

    found = look()

    assert repository.files(found["result"])["renamed.js"].splitlines()[-1] == "line 11"


def test_a_file_the_feature_renamed_gets_its_name_back_with_others_lines(repository: Repository, look: Look) -> None:
    repository.git("mv", "shared.js", "renamed.js")
    repository.commit("SHOP-41: rename")
    repository.change("renamed.js", "refunds", "PAY-7: refunds")

    found = look()

    assert repository.git("show", f"{found['result']}:shared.js").splitlines()[-2:] == ["line 11", "refunds"]
    assert repository.files(found["result"]) == {}


def test_a_file_that_the_feature_made_goes_from_where_somebody_moved_it(repository: Repository, look: Look) -> None:
    repository.change("src/replies.js", "one", "SHOP-41: replies")
    repository.git("mv", "src", "lib")
    repository.commit("PAY-7: rename a folder")

    assert repository.files(look()["result"]) == {}


def test_a_file_that_the_feature_deleted_comes_back(repository: Repository, look: Look) -> None:
    repository.git("rm", "--quiet", "shared.js")
    repository.commit("SHOP-41: do without it")

    assert look()["status"] == "ready"
    assert repository.git("show", f"{look()['result']}:shared.js").startswith("line 0\n")


def test_binary_files_links_and_modes_are_taken_back(repository: Repository, look: Look) -> None:
    (repository.path / "logo.png").write_bytes(b"\x89PNG\0one")
    (repository.path / "run.sh").write_text("run\n")
    (repository.path / "na\u00efve name.txt").write_bytes(b"caf\xe9\r\n")
    before = repository.commit("PAY-7: a logo")
    (repository.path / "logo.png").write_bytes(b"\x89PNG\0two")
    (repository.path / "run.sh").chmod(0o755)
    (repository.path / "link").symlink_to("run.sh")
    (repository.path / "na\u00efve name.txt").write_bytes(b"caf\xe9\r\nth\xe9\r\n")
    repository.commit("SHOP-41: another logo")

    found = look()

    assert repository.git("rev-parse", f"{found['result']}^{{tree}}") == repository.git("rev-parse", f"{before}^{{tree}}")


def test_files_whose_line_ends_contradict_their_attributes_are_no_obstacle(repository: Repository, look: Look) -> None:
    (repository.path / "windows.txt").write_bytes(b"one\r\ntwo\r\n")
    repository.commit("PAY-7: a text")
    repository.write(".gitattributes", "*.txt text")
    repository.commit("PAY-7: attributes")
    repository.git("config", "core.autocrlf", "true")
    repository.change("replies.js", "one", "SHOP-41: replies")

    assert look()["status"] == "ready"


def test_lines_next_to_one_another_are_no_conflict(repository: Repository, look: Look) -> None:
    repository.change("notes.js", "first", "PAY-1: first")
    repository.change("notes.js", "feature", "SHOP-41: replies")
    repository.change("notes.js", "last", "PAY-2: last")

    found = look()

    assert repository.files(found["result"]) == {"notes.js": "first\nlast"}


# --- refused by name


def test_where_the_two_ways_differ_the_files_are_named_and_nothing_is_made(repository: Repository, tmp_path: Path) -> None:
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.change("pay.js", "refunds", "PAY-7: refunds")
    checkout = Checkout(repository.path, LocalProcesses())
    found = take_back(checkout, FEATURE, checkout.head())
    otherwise = replace(found, rebuilt=Rebuilt({**found.rebuilt.files, "pay.js": None}, []))

    _, refusal = make(otherwise, checkout.scratch(tmp_path / "clone"), "Ada", datetime(2026, 1, 2, tzinfo=UTC))

    assert refusal == Refusal("git's reverts and the rebuilt history differ in: pay.js.", ["pay.js"])


def test_later_changes_of_the_features_own_lines_are_refused_by_name(repository: Repository, look: Look) -> None:
    repository.change("shared.js", "feature", "SHOP-41: replies")
    repository.write("shared.js", *(f"line {n};" for n in range(12)), "feature;")
    later = repository.commit("Format everything")

    found = look()

    assert refused(found) == ("refused", ["shared.js"])
    assert later[:12] in found["refused_because"]
    assert look("--include", later)["status"] == "ready"


def test_others_lines_in_a_file_that_the_feature_made_are_refused_by_name(repository: Repository, look: Look) -> None:
    repository.change("replies.js", "one", "SHOP-41: replies")
    later = repository.change("replies.js", "two", "PAY-7: refunds")

    found = look()

    assert refused(found) == ("refused", ["replies.js"])
    assert later[:12] in found["refused_because"]


def test_lines_of_the_feature_moved_to_another_file_are_refused_by_name(repository: Repository, look: Look) -> None:
    repository.change("shared.js", "feature()", "SHOP-41: replies")
    repository.write("shared.js", *(f"line {n}" for n in range(12)))
    repository.write("moved.js", "  feature()", "and more")
    repository.commit("Split the file")

    assert refused(look()) == ("refused", ["moved.js"])
