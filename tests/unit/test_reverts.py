"""Which commits are taken back."""

import pytest

from runbook_lib.adapters.git import Commit
from runbook_lib.reverts import commits_to_revert

FEATURE = "FEAT-1"


def commit(letter: str, subject: str, *, body: str = "", parents: int = 1) -> Commit:
    return Commit(letter * 40, tuple(str(n) * 40 for n in range(parents)), subject, body)


def revert_of(letter: str, what: Commit) -> Commit:
    return commit(letter, f'Revert "{what.subject}"', body=f"This reverts commit {what.id}.")


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
