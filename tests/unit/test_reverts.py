"""Which commits are taken back."""

import pytest

from runbook_lib.adapters.git import Commit
from runbook_lib.reverts import TAKEN_BACK, account, commits_to_revert, on_top

FEATURE = "FEAT-1"


def commit(letter: str, subject: str, *, body: str = "", parents: int = 1) -> Commit:
    return Commit(letter * 40, tuple(str(n) * 40 for n in range(parents)), subject, body)


def revert_of(letter: str, what: Commit) -> Commit:
    body = f"This reverts commit {what.id}."
    return Commit(letter * 40, (what.id,), f'Revert "{what.subject}"', body)


A = commit("a", "FEAT-1 add")
B = commit("b", "FEAT-1 extend")
OTHER = commit("f", "Something else")
MERGE = commit("c", "Merge FEAT-1", parents=2)
REVERT_A = revert_of("d", A)
REAPPLY_A = revert_of("e", REVERT_A)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param([OTHER], [], id="nothing of the feature"),
        pytest.param([OTHER, B, A], [B, A], id="newest first, later work left alone"),
        pytest.param([MERGE, B, A], [MERGE, A], id="what a merge brought goes with the merge"),
        pytest.param([REVERT_A, B, A], [B], id="already reverted"),
        pytest.param([REAPPLY_A, REVERT_A, A], [A], id="reverted and put in again"),
        pytest.param([revert_of("9", REAPPLY_A), REAPPLY_A, REVERT_A, A], [], id="reverted, put in again, reverted again"),
        pytest.param([revert_of("8", MERGE), MERGE, B], [], id="a reverted merge takes its commits with it"),
        pytest.param([commit("7", "Add", body="for FEAT-1")], [commit("7", "Add", body="for FEAT-1")], id="id in the body"),
    ],
)
def test_commits_to_revert(log: list[Commit], expected: list[Commit]) -> None:
    brought = {MERGE.id: {MERGE.id, B.id}}

    assert commits_to_revert(log, FEATURE, lambda merge: brought[merge.id]) == expected


def fates(log: list[Commit], listed: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    brought = {MERGE.id: {MERGE.id, B.id}}
    found = account(log, FEATURE, lambda merge: brought[merge.id], listed or {})
    return {f.commit.id[0]: (f.by, f.fate) for f in found}


def test_a_commit_without_the_id_is_taken_back_where_the_plan_lists_it() -> None:
    assert fates([OTHER, A], {OTHER.id: "list"}) == {"f": ("list", TAKEN_BACK), "a": ("message", TAKEN_BACK)}


def test_a_commit_found_in_two_ways_is_one_commit() -> None:
    assert fates([A], {A.id: "range"}) == {"a": ("message and range", TAKEN_BACK)}


def test_each_commit_of_the_feature_has_a_fate_that_is_shown() -> None:
    assert fates([MERGE, B, REVERT_A, A]) == {
        "c": ("message", TAKEN_BACK),
        "b": ("message", f"goes with the merge {MERGE.id[:12]}"),
        "a": ("message", "was taken back before"),
    }


def test_a_merge_into_a_side_branch_is_not_reverted_by_its_first_parent_which_would_take_others_work_back() -> None:
    update = Commit("5" * 40, (B.id, OTHER.id), "Merge main into FEAT-1", "")
    pulled = Commit("6" * 40, ("0" * 40, update.id), "Merge pull request 7", "")

    found = fates([pulled, update, B])

    assert found["b"][1] == TAKEN_BACK
    assert "side branch" in found["5"][1]


def test_a_revert_that_belongs_to_the_feature_is_taken_back_itself() -> None:
    removal = Commit("4" * 40, (OTHER.id,), "FEAT-1 do without it", f"This reverts commit {OTHER.id}.")

    assert fates([removal, OTHER]) == {"4": ("message", TAKEN_BACK)}
    assert fates([revert_of("3", removal), removal, OTHER])["4"][1] == "was taken back before"


# --- what a reset would lose


def above(*log: Commit) -> tuple[str, list[Commit]]:
    """The log's commits as one line, with a first one below; what lies above the base that is not the feature's."""
    first = commit("0", "First", parents=0)
    line = [*log, first]
    linked = [Commit(c.id, (line[n + 1].id,) if n + 1 < len(line) else (), c.subject, c.body) for n, c in enumerate(line)]
    found = account(linked, FEATURE, lambda merge: set(), {})
    return on_top(linked, [f.commit for f in found if f.fate == TAKEN_BACK], found, lambda merge: set())


def test_nothing_lies_on_top_of_the_feature_alone() -> None:
    assert above(B, A) == ("0" * 40, [])


def test_reverts_of_the_feature_are_the_features_own() -> None:
    assert above(REAPPLY_A, REVERT_A, A) == ("0" * 40, [])


def test_work_between_and_after_would_be_lost() -> None:
    later = commit("2", "Later")

    base, others = above(later, B, OTHER, A)

    assert (base, [c.id for c in others]) == ("0" * 40, [later.id, OTHER.id])


def test_work_below_the_oldest_is_not_lost() -> None:
    assert above(B, A, OTHER) == (OTHER.id, [])


def test_a_feature_that_is_the_first_of_all_has_nothing_below() -> None:
    root = commit("1", "FEAT-1 begin", parents=0)

    assert on_top([root], [root], account([root], FEATURE, lambda merge: set(), {}), lambda merge: set()) == ("", [])
