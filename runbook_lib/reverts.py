"""Which commits have to be taken back so that a feature is gone: a pure decision over a log."""

import re
from collections.abc import Callable, Mapping, Sequence

from runbook_lib.adapters.git import Commit

_REVERTS = re.compile(r"This reverts commit ([0-9a-f]{40})")


def commits_to_revert(log: Sequence[Commit], feature: str, brought_by: Callable[[Commit], set[str]]) -> list[Commit]:
    """The feature's commits still in effect, newest first.

    A commit that a merge of the feature brought goes with the merge. A commit already reverted is left out, and one whose
    revert was reverted is in again.

    Args:
        log: Every commit of the branch, newest first.
        feature: The id that the feature's commits bear in their messages.
        brought_by: The ids that a merge brought to its first parent, itself among them.
    """
    by_id = {commit.id: commit for commit in log}
    in_effect: dict[str, bool] = {}
    for commit in reversed(log):  # oldest first: the latest revert has the last word
        original, depth = _origin(commit, by_id)
        in_effect[original] = depth % 2 == 0
    own = [c for c in log if feature in f"{c.subject}\n{c.body}" and not _REVERTS.search(c.body)]
    gone_with_merge = {commit_id for merge in own if merge.is_merge for commit_id in brought_by(merge) - {merge.id}}
    return [c for c in own if in_effect[c.id] and c.id not in gone_with_merge]


def _origin(commit: Commit, by_id: Mapping[str, Commit]) -> tuple[str, int]:
    """The commit that a chain of reverts began with, and how many reverts long the chain is."""
    target = _REVERTS.search(commit.body)
    if not target:
        return commit.id, 0
    if target[1] not in by_id:
        return target[1], 1
    original, depth = _origin(by_id[target[1]], by_id)
    return original, depth + 1
