"""Reverts, reverts of reverts, cherry-picks and other copies of commits."""

import pytest

from ...support.repository import Look, Repository, actions


def pull_request(repository: Repository) -> str:
    repository.on("feature/SHOP-41")
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.on("main")
    repository.change("pay.js", "refunds", "PAY-7: refunds")
    message = ("Merge pull request #12 from acme/feature/SHOP-41", "SHOP-41: replies")
    return repository.merge("feature/SHOP-41", message=message)


@pytest.mark.parametrize("with_sentence", [True, False])
def test_a_merged_revert_pull_request_leaves_nothing_to_take_back(
    repository: Repository, look: Look, with_sentence: bool
) -> None:
    merge = pull_request(repository)
    repository.on("revert-12-feature/SHOP-41")
    repository.git("revert", "--no-edit", "--mainline=1", merge)
    if not with_sentence:
        repository.git("commit", "--quiet", "--amend", '--message=Revert "SHOP-41: replies"')
    repository.on("main")
    message = ("Merge pull request #13 from acme/revert-12-feature/SHOP-41", 'Revert "SHOP-41: replies"')
    repository.merge("revert-12-feature/SHOP-41", message=message)
    head = repository.change("pay.js", "fees", "PAY-8: fees")

    found = look()

    assert (found["status"], found["exit"], found["result"]) == ("nothing", 0, head)
    assert {"revert", "revert-merge", "ask"}.isdisjoint(actions(found).values())


def test_a_revert_in_nobodys_words_is_known_by_what_it_does(repository: Repository, look: Look) -> None:
    repository.change("replies.js", "one", "SHOP-41: replies")
    (repository.path / "replies.js").unlink()
    head = repository.commit("Tidy up")

    found = look()

    assert (found["status"], found["result"], actions(found)) == ("nothing", head, {"SHOP-41: replies": "already-reverted"})


@pytest.mark.parametrize("subject", ["", 'Reapply "SHOP-41: replies"', "Put it back"])
def test_a_revert_of_a_revert_puts_the_feature_back_and_is_taken_back(
    repository: Repository, look: Look, subject: str
) -> None:
    made = repository.change("replies.js", "one", "SHOP-41: replies")
    repository.git("revert", "--no-edit", made)
    repository.change("pay.js", "refunds", "PAY-7: refunds")
    repository.git("revert", "--no-edit", "HEAD~1")
    again = repository.git("rev-parse", "HEAD")
    if subject:
        repository.git("commit", "--quiet", "--amend", f"--message={subject}")
        again = repository.git("rev-parse", "HEAD")

    found = look()
    if found["asks"]:  # no word of the feature
        assert [ask["id"] for ask in found["asks"]] == [again]
        found = look("--include", again)

    assert (found["status"], repository.files(found["result"])) == ("ready", {"pay.js": "refunds"})
    assert [c["id"] for c in found["commits"] if c["action"] == "revert"] == [again]


def test_a_release_reverted_and_put_back_whole_keeps_what_else_it_brought(repository: Repository, look: Look) -> None:
    repository.on("develop")
    repository.write("shared.js", "feature", *(f"line {n}" for n in range(1, 12)))
    repository.commit("SHOP-41: replies")
    repository.change("pay.js", "refunds", "PAY-7: refunds")
    repository.on("main")
    repository.merge("develop", message=("Release 1.4.0",))
    repository.git("revert", "--no-edit", "--mainline=1", "HEAD")
    assert look()["status"] == "nothing"
    repository.git("revert", "--no-edit", "HEAD")

    found = look()

    assert (found["status"], repository.files(found["result"])) == ("ready", {"pay.js": "refunds"})
    assert repository.git("show", f"{found['result']}:shared.js").startswith("line 0\n")


def test_what_came_after_a_revert_is_taken_back_alone(repository: Repository, look: Look) -> None:
    merge = pull_request(repository)
    repository.git("revert", "--no-edit", "--mainline=1", merge)
    repository.on("feature/SHOP-41")
    repository.change("second.js", "two", "SHOP-41: second try")
    repository.on("main")
    repository.merge("feature/SHOP-41")

    found = look()

    assert repository.files(found["result"]) == {"pay.js": "refunds"}
    assert actions(found)["SHOP-41: replies"] == "already-reverted"


@pytest.mark.parametrize("renamed", [False, True], ids=["same message", "another message"])
def test_a_cherry_pick_goes_with_what_it_was_picked_from(repository: Repository, look: Look, renamed: bool) -> None:
    repository.on("release/1")
    repository.on("main")
    made = repository.change("replies.js", "one", "SHOP-41: replies")
    repository.on("release/1")
    repository.git("cherry-pick", "-x", made)
    if renamed:
        body = f"(cherry picked from commit {made})"
        repository.git("commit", "--quiet", "--amend", "--message=Hotfix", f"--message={body}")
    repository.change("pay.js", "refunds", "PAY-7: refunds")

    alone = look()
    repository.on("main")
    repository.merge("release/1")
    both = look()

    assert [f["found_by"] for f in alone["commits"]] == ["cherry-pick" if renamed else "subject"]
    assert repository.files(alone["result"]) == repository.files(both["result"]) == {"pay.js": "refunds"}


def test_a_rebased_copy_is_known_by_its_change(repository: Repository, look: Look) -> None:
    repository.on("feature/SHOP-41")
    made = repository.change("replies.js", "one", "SHOP-41: replies")
    repository.on("main")
    repository.change("pay.js", "refunds", "PAY-7: refunds")
    repository.git("cherry-pick", made)
    repository.git("commit", "--quiet", "--amend", "--message=Show replies")
    repository.merge("feature/SHOP-41")

    found = look()

    assert next(c["found_by"] for c in found["commits"] if c["subject"] == "Show replies") == "same-change"
    assert repository.files(found["result"]) == {"pay.js": "refunds"}


def test_lines_that_the_feature_moved_are_back_once_it_is_taken_back(repository: Repository, look: Look) -> None:
    repository.write("imports.js", "", "from app", "from shop", "", "from sql", "from text", "", "run")
    repository.commit("PAY-7: shop")
    repository.write("imports.js", "", "from sql", "from text", "", "from app", "from shop", "", "run")
    repository.commit("SHOP-41: sort imports")
    repository.git("reset", "--quiet", "--hard", look()["result"])

    found = look()

    assert (found["status"], actions(found)["SHOP-41: sort imports"]) == ("nothing", "already-reverted")


def test_an_empty_commit_is_no_obstacle(repository: Repository, look: Look) -> None:
    repository.change("replies.js", "one", "SHOP-41: replies")
    repository.commit("SHOP-41: run the pipeline again")

    found = look()

    assert actions(found) == {"SHOP-41: run the pipeline again": "already-reverted", "SHOP-41: replies": "revert"}
