"""Which commits are the feature's, merges of every kind included."""

import subprocess

import pytest

from ...support.repository import Look, Repository, actions


def test_only_whole_words_match_and_a_mention_is_asked_about(repository: Repository, look: Look) -> None:
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.change("cards.js", "one", "SHOP-410: cards")
    repository.change("tax.js", "one", "SHOP-4123: tax")
    mention = repository.change("tokens.js", "one", "SEC-9: check tokens", "Found while reviewing SHOP-41; unrelated.")

    found = look()

    assert (found["status"], found["exit"], found["result"]) == ("ask", 4, None)
    assert [ask["id"] for ask in found["asks"]] == [mention]
    kept, taken = look("--exclude", mention[:9]), look("--include", mention[:9])
    assert set(repository.files(kept["result"])) == {"cards.js", "tax.js", "tokens.js"}
    assert set(repository.files(taken["result"])) == {"cards.js", "tax.js"}


def test_a_release_commit_that_lists_tickets_is_asked_about(repository: Repository, look: Look) -> None:
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.write("package.json", '{"version": "1.4.0"}')
    repository.change("CHANGELOG.md", "1.4.0", "chore(release): 1.4.0", "- SHOP-41 replies\n- PAY-7 refunds")

    found = look()

    assert [ask["subject"] for ask in found["asks"]] == ["chore(release): 1.4.0"]


def test_a_mention_of_which_nothing_is_left_is_not_asked_about(repository: Repository, look: Look) -> None:
    repository.change("replies.js", "one", "SHOP-41: replies")
    mention = repository.change("tokens.js", "one", "SEC-9: tokens", "As in SHOP-41.")
    repository.git("revert", "--no-edit", mention)

    assert look()["status"] == "ready"


def test_commits_on_the_features_branch_that_name_nothing_are_asked_about(repository: Repository, look: Look) -> None:
    repository.on("feature/SHOP-41")
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.change("more.js", "one", "wip")
    repository.change("pay.js", "one", "PAY-7: hotfix")
    repository.on("main")
    merge = repository.merge("feature/SHOP-41")

    found = look()

    assert [ask["subject"] for ask in found["asks"]] == ["wip"]
    assert actions(found)["Merge branch 'feature/SHOP-41'"] == "keep"
    assert "PAY-7: hotfix" in next(c["why"] for c in found["commits"] if c["id"] == merge)
    assert set(repository.files(look("--include", merge)["result"])) == {"pay.js"}


# --- merges


def test_a_merge_of_the_feature_alone_goes_as_a_whole(repository: Repository, look: Look) -> None:
    repository.on("feature/SHOP-41")
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.change("replies.js", "two", "SHOP-41: more")
    repository.on("main")
    repository.change("pay.js", "refunds", "PAY-7: refunds")
    repository.merge("feature/SHOP-41")

    found = look()

    assert list(actions(found).values()) == ["revert-merge", "goes-with-merge", "goes-with-merge"]
    assert repository.files(found["result"]) == {"pay.js": "refunds"}


@pytest.mark.parametrize("forward", [True, False], ids=["fast-forwarded", "merged"])
def test_a_back_merge_takes_nobody_elses_work_away(repository: Repository, look: Look, forward: bool) -> None:
    repository.on("feature/SHOP-41")
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.on("main")
    repository.change("pay.js", "refunds", "PAY-7: refunds")
    repository.on("feature/SHOP-41")
    repository.merge("main")
    repository.change("replies.js", "two", "SHOP-41: finish")
    repository.on("main")
    repository.git("merge", "--quiet", "--ff-only" if forward else "--no-ff", "feature/SHOP-41")
    repository.change("docs.js", "text", "DOC-1: text")

    found = look()

    assert (found["status"], repository.files(found["result"])) == ("ready", {"pay.js": "refunds", "docs.js": "text"})


def test_a_release_merge_that_lists_the_feature_keeps_what_else_it_brought(repository: Repository, look: Look) -> None:
    repository.on("develop")
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.change("pay.js", "refunds", "PAY-7: refunds")
    repository.on("main")
    repository.merge("develop", message=("Release 1.4.0", "- SHOP-41 replies\n- PAY-7 refunds"))

    found = look()

    assert actions(found) == {"Release 1.4.0": "keep", "SHOP-41: replies": "revert"}
    assert "PAY-7: refunds" in found["commits"][0]["why"]
    assert repository.files(found["result"]) == {"pay.js": "refunds"}


@pytest.mark.parametrize("edited", [False, True], ids=["as it was", "edited"])
def test_a_merge_that_moves_the_features_file_by_itself_is_refused_by_name(
    repository: Repository, look: Look, edited: bool
) -> None:
    repository.on("develop")
    repository.change("replies.js", "serve the replies", "SHOP-41: replies")
    repository.on("main")
    repository.change("pay.js", "refunds", "PAY-7: refunds")
    repository.git("merge", "--quiet", "--no-ff", "--no-commit", "develop")
    repository.git("mv", "replies.js", "moved.js")
    if edited:
        repository.write("moved.js", "// moved", "serve the replies")
    repository.commit("Release 1.4.0")

    found = look()

    assert (found["status"], found["exit"], found["result"]) == ("refused", 3, None)
    assert "moved.js" in found["refused_because"]


def test_an_octopus_merge_keeps_the_other_branches(repository: Repository, look: Look) -> None:
    for branch, file, message in (("feature/SHOP-41", "replies.js", "SHOP-41: a"), ("topic", "pay.js", "PAY-7: b")):
        repository.on("main")
        repository.on(branch)
        repository.change(file, "one", message)
    repository.on("main")
    repository.change("docs.js", "text", "DOC-1: text")
    repository.merge("feature/SHOP-41", "topic")

    found = look()

    assert (found["status"], set(repository.files(found["result"]))) == ("ready", {"pay.js", "docs.js"})


@pytest.mark.parametrize("subject", ["SHOP-41: replies (#12)", None], ids=["by a host", "by git"])
def test_a_squash_merge_is_one_commit_of_the_feature(repository: Repository, look: Look, subject: str | None) -> None:
    repository.on("feature/SHOP-41")
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.change("replies.js", "two", "SHOP-41: more")
    repository.on("main")
    repository.git("merge", "--quiet", "--squash", "feature/SHOP-41")
    repository.git("commit", "--quiet", *([f"--message={subject}"] if subject else ["--no-edit"]))
    repository.change("pay.js", "refunds", "PAY-7: refunds")

    found = look()

    assert (found["status"], repository.files(found["result"])) == ("ready", {"pay.js": "refunds"})
    assert found["commits"][0]["found_by"] == ("subject" if subject else "squash")


def test_a_conflict_that_the_features_own_merge_resolved_goes_with_it(repository: Repository, look: Look) -> None:
    repository.on("feature/SHOP-41")
    repository.write("shared.js", "feature", *(f"line {n}" for n in range(1, 12)))
    repository.commit("SHOP-41: replies")
    repository.on("main")
    repository.write("shared.js", "other", *(f"line {n}" for n in range(1, 12)))
    repository.commit("PAY-7: refunds")
    with pytest.raises(subprocess.CalledProcessError):
        repository.merge("feature/SHOP-41")
    repository.write("shared.js", "both", *(f"line {n}" for n in range(1, 12)))
    repository.commit("Merge branch 'feature/SHOP-41'")

    found = look()

    assert found["status"] == "ready"
    assert repository.git("show", f"{found['result']}:shared.js").startswith("other\nline 1\n")


def test_changes_made_by_a_merge_of_the_features_name_are_asked_about(repository: Repository, look: Look) -> None:
    repository.on("feature/SHOP-41")
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.change("pay.js", "refunds", "PAY-7: refunds")
    repository.on("main")
    repository.change("docs.js", "text", "DOC-1: text")
    repository.git("merge", "--quiet", "--no-ff", "--no-commit", "feature/SHOP-41")
    merge = repository.change("wiring.js", "on", "Merge branch 'feature/SHOP-41'")

    found = look()

    assert [ask["id"] for ask in found["asks"]] == [merge]
    assert "changes files itself (wiring.js)" in found["asks"][0]["why"]
    assert set(repository.files(look("--exclude", merge)["result"])) == {"pay.js", "docs.js", "wiring.js"}


def test_a_conflict_that_somebody_elses_merge_resolved_is_refused(repository: Repository, look: Look) -> None:
    repository.on("develop")
    repository.write("shared.js", "feature", *(f"line {n}" for n in range(1, 12)))
    repository.commit("SHOP-41: replies")
    repository.change("tax.js", "one", "TAX-1: tax")
    repository.on("main")
    repository.write("shared.js", "other", *(f"line {n}" for n in range(1, 12)))
    repository.commit("PAY-7: refunds")
    with pytest.raises(subprocess.CalledProcessError):
        repository.merge("develop")
    repository.write("shared.js", "both", *(f"line {n}" for n in range(1, 12)))
    repository.commit("Release 2")

    found = look()

    assert (found["status"], found["exit"], found["files"]) == ("refused", 3, ["shared.js"])
    assert "Release 2" in found["refused_because"]
