"""Which commits have to be taken back so that a feature is gone: a pure decision over a log."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runbook_lib.adapters.git import Commit

_REVERTS = re.compile(r"This reverts commit ([0-9a-f]{40})")
TAKEN_BACK = "is taken back"


@dataclass(frozen=True)
class Found:
    """A commit of the feature: how it was found, and what becomes of it."""

    commit: Commit
    by: str
    fate: str


def commits_to_revert(
    log: Sequence[Commit],
    feature: str,
    brought_by: Callable[[Commit], set[str]],
    listed: Mapping[str, str] | None = None,
) -> list[Commit]:
    """The feature's commits still in effect, newest first; see `account`."""
    return [found.commit for found in account(log, feature, brought_by, listed or {}) if found.fate == TAKEN_BACK]


def account(
    log: Sequence[Commit], feature: str, brought_by: Callable[[Commit], set[str]], listed: Mapping[str, str]
) -> list[Found]:
    """Every commit of the feature, newest first, and what becomes of it.

    A commit that a merge of the feature brought goes with the merge. A commit already reverted is left out, and one whose
    revert was reverted is in again. A merge into a side branch is left out: by its first parent, it holds others' work.

    Args:
        log: Every commit of the branch, newest first.
        feature: The id that the feature's commits bear in their messages.
        brought_by: The ids that a merge brought to its first parent, itself among them.
        listed: Further commits of the feature: full id -> how it was found.
    """
    by_id = {commit.id: commit for commit in log}
    main_line = _main_line(log, by_id)
    how = {c.id: "message" for c in log if feature in f"{c.subject}\n{c.body}"}
    how = {c.id: " and ".join(w for w in (how.get(c.id), listed.get(c.id)) if w) for c in log if c.id in {*how, *listed}}
    in_effect: dict[str, bool] = {}
    for commit in reversed(log):  # oldest first: the latest revert has the last word
        original, depth = _origin(commit, by_id)
        in_effect[original] = depth % 2 == 0
    origins = {c.id: _origin(c, by_id)[0] for c in log}
    own = [c for c in log if c.id in how and (origins[c.id] == c.id or origins[c.id] not in how)]

    def stands(commit: Commit) -> bool:
        original = origins[commit.id]
        return in_effect[original] if original == commit.id else not in_effect[original]

    gone_with = {i: m for m in own if m.is_merge and m.id in main_line for i in brought_by(m) - {m.id}}

    def fate(commit: Commit) -> str:
        if merge := gone_with.get(commit.id):
            return f"goes with the merge {merge.id[:12]}"
        if not stands(commit):
            return "was taken back before"
        if commit.is_merge and commit.id not in main_line:
            return "stays: a merge into a side branch; the commits it merged count by themselves"
        return TAKEN_BACK

    return [Found(c, how[c.id], fate(c)) for c in own]


def on_top(
    log: Sequence[Commit], commits: Sequence[Commit], found: Sequence[Found], brought_by: Callable[[Commit], set[str]]
) -> tuple[str, list[Commit]]:
    """The id of the commit below the oldest of `commits` on the main line, and what lies above it that is not the feature's.

    The id is "" where there is no commit below. Reverts of the feature's commits count as the feature's.

    Args:
        log: Every commit of the branch, newest first.
        commits: The feature's commits in effect, at least one.
        found: Every commit of the feature.
        brought_by: The ids that a merge brought to its first parent, itself among them.
    """
    by_id = {commit.id: commit for commit in log}
    taken = {commit.id for commit in commits}
    oldest = log[0]
    for commit in (by_id[i] for i in _main_line(log, by_id)):
        if commit.id in taken or (commit.is_merge and brought_by(commit) & taken):
            oldest = commit
    below = set(_reachable(oldest.parents[:1], by_id))
    own = {f.commit.id for f in found}
    own |= {i for f in found if f.commit.is_merge and f.commit.id in taken for i in brought_by(f.commit)}
    others = [c for c in log if c.id not in below | own and _origin(c, by_id)[0] not in own]
    return (oldest.parents[0] if oldest.parents else ""), others


def _main_line(log: Sequence[Commit], by_id: Mapping[str, Commit]) -> dict[str, None]:
    """The ids that following first parents from the newest commit leads to, in that order."""
    line: dict[str, None] = {}
    at = log[0] if log else None
    while at is not None:
        line[at.id] = None
        at = by_id.get(at.parents[0]) if at.parents else None
    return line


def _reachable(ids: Sequence[str], by_id: Mapping[str, Commit]) -> set[str]:
    seen: set[str] = set()
    ahead = list(ids)
    while ahead:
        if (at := ahead.pop()) in by_id and at not in seen:
            seen.add(at)
            ahead += by_id[at].parents
    return seen


def _origin(commit: Commit, by_id: Mapping[str, Commit]) -> tuple[str, int]:
    """The commit that a chain of reverts began with, and how many reverts long the chain is."""
    target = _REVERTS.search(commit.body)
    if not target:
        return commit.id, 0
    if target[1] not in by_id:
        return target[1], 1
    original, depth = _origin(by_id[target[1]], by_id)
    return original, depth + 1
