"""The commits of a branch as a graph: ancestors, and what a merge brought. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from runbook_lib.git import Commit


class Graph:
    """Commits, newest first, each before its ancestors; parents outside are below the graph."""

    def __init__(self, log: Sequence[Commit]) -> None:
        self.log = log
        self.index = {commit.id: n for n, commit in enumerate(log)}

    def commits(self, bits: int) -> Iterator[Commit]:
        """Yield the commits of a set, newest first."""
        while bits:
            low = bits & -bits
            yield self.log[low.bit_length() - 1]
            bits ^= low

    def bit(self, commit: str) -> int:
        """Return a set of one commit, empty if it is not in the graph."""
        return 1 << self.index[commit] if commit in self.index else 0

    def bits(self, commits: Sequence[str]) -> int:
        """Return the set of some commits."""
        found = 0
        for commit in commits:
            found |= self.bit(commit)
        return found

    @cached_property
    def _held(self) -> list[int]:
        held = [0] * len(self.log)
        for n in range(len(self.log) - 1, -1, -1):
            bits = 1 << n
            for parent in self.log[n].parents:
                if (at := self.index.get(parent)) is not None:
                    bits |= held[at]
            held[n] = bits
        return held

    def holds(self, commit: str) -> int:
        """Return the set of a commit and all its ancestors."""
        return self._held[self.index[commit]] if commit in self.index else 0

    def brought(self, merge: Commit) -> int:
        """Return the set of commits that a merge brought to its first parent, without itself."""
        return self.holds(merge.id) & ~self.holds(merge.parents[0]) & ~self.bit(merge.id)

    @cached_property
    def main_line(self) -> list[Commit]:
        """Return the newest commit, its first parent, and so on."""
        line = []
        at = self.log[0] if self.log else None
        while at is not None:
            line.append(at)
            n = self.index.get(at.parents[0]) if at.parents else None
            at = None if n is None else self.log[n]
        return line

    def elsewhere(self, merge: Commit) -> int:
        """Return the commits reachable without a merge: from commits that are neither its ancestors nor its descendants."""
        inside = self.brought(merge) | self.bit(merge.id)
        found = self.holds(merge.parents[0])
        for n, held in enumerate(self._held):
            if not (inside >> n) & 1 and not held & self.bit(merge.id):
                found |= held
        return found
