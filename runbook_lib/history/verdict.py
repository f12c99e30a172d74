"""Judge what is left of a feature, which commits take it away, and what prevents that. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from runbook_lib.history.provenance import BEFORE, Edit, Provenance, Version

SHORTEST = 4  # characters of a line that can be recognised elsewhere


@dataclass(frozen=True)
class Tangle:
    """A file in which the feature's work cannot be separated from somebody else's."""

    path: str
    commit: str
    why: str


class Verdict:
    """Judges some commits, taken for the feature's, by the fate of their lines.

    A line is the feature's if nobody else wrote it. A line that the feature removed is pending if nobody else removed it.
    """

    def __init__(
        self,
        known: Provenance,
        tip: str,
        ours: Collection[str],
        kept: Collection[str] = (),
        neutral: Collection[str] = (),
    ) -> None:
        self.known = known
        self.graph = known.graph
        self.state = known.states.get(tip, {})
        self.ours = frozenset(ours)
        self.kept = frozenset(kept)  # commits that deliberately keep a part of it
        self.neutral = frozenset(neutral)  # commits that only undo a revert, also of others' work: they restore what existed

    def is_ours(self, line: int) -> bool:
        """Whether only the feature wrote a line."""
        number = self.known.number(line)
        return self.known.written[number] <= self.ours and not self.known.returned[number] & self.kept

    @cached_property
    def live(self) -> frozenset[int]:
        """The lines and facts that exist at the tip."""
        number = self.known.number
        return frozenset(number(line) for v in self.state.values() for line in (*v.facts, *v.lines))

    def removers(self, line: int) -> set[str]:
        """Return who removed a line that has not been restored since."""
        number = self.known.number(line)
        returned = self.graph.bits([*self.known.returned[number]])
        held = [self.graph.holds(c.id) for c in self.graph.commits(returned)]
        standing = {by for by in self.known.removed[number] if not any(bits & self.graph.bit(by) for bits in held)}
        for by in standing & self.neutral:
            before = self.graph.holds(by) & ~self.graph.bit(by)
            standing |= {one for one in self.known.removed[number] if self.graph.bit(one) & before}
        return standing - self.neutral

    def is_pending(self, line: int) -> bool:
        """Whether a missing line must come back: only the feature removed it."""
        number = self.known.number(line)
        if number in self.live or self.is_ours(number):
            return False
        removers = self.removers(number)
        return bool(removers) and removers <= self.ours

    @cached_property
    def pending(self) -> frozenset[int]:
        """The lines and facts that must come back."""
        number = self.known.number
        edits = [edit for edit in self.known.edits if edit.commit in self.ours]
        files = {number(e.file) for e in edits}
        files = {file for file in files if file in self.live or self.is_pending(file)}
        gone = {number(x) for e in edits for x in (*e.removed, *(e.gone.facts if e.gone else ())) if number(e.file) in files}
        return frozenset(line for line in gone if self.is_pending(line))

    @cached_property
    def left(self) -> frozenset[int]:
        """The feature's lines and facts that exist at the tip."""
        return frozenset(line for line in self.live if self.is_ours(line))

    @cached_property
    def owners(self) -> dict[int, str]:
        """Each line that is left or pending, with the commit whose revert settles it."""
        left = {line: self._newest(self._appliers(line)) for line in self.left}
        return left | {line: self._newest(self.removers(line)) for line in self.pending}

    @cached_property
    def to_revert(self) -> set[str]:
        """The commits whose reverts remove what is left and restore what is pending."""
        found = set(self.owners.values())
        written = {self.known.number(x) for e in self.known.edits if e.commit in self.ours for x in e.added}
        written |= {self.known.number(f) for e in self.known.edits if e.gone for f in e.gone.facts}
        hidden = {line: self.removers(line) for line in written if line not in self.live and self.is_ours(line)}
        while True:  # reverting these would bring back what only they hide
            more = {self._newest(self._appliers(line)) for line, by in hidden.items() if by and by <= found}
            if more <= found:
                return found
            found |= more

    def _appliers(self, line: int) -> set[str]:
        number = self.known.number(line)
        ours = (self.known.written[number] | self.known.returned[number]) & self.ours
        return {c for c in ours if not any(o != c and self.graph.holds(o) & self.graph.bit(c) for o in ours)}

    def _newest(self, commits: set[str]) -> str:
        return min(commits, key=lambda commit: self.graph.index[commit])

    @cached_property
    def put_back(self) -> dict[str, int]:
        """Who else restored existing lines of the feature: commit -> one such line. Merges only pass them on."""
        found = {}
        for line in sorted(self.left):
            for by in self.known.returned[line] - self.ours - self.neutral:
                if not self.graph.log[self.graph.index[by]].is_merge:
                    found[by] = line
        return found

    def has_effect(self, commit: str) -> bool:
        """Whether anything that a commit wrote still exists, or anything it removed is still gone."""
        number = self.known.number
        for edit in self.known.edits:
            if edit.commit == commit:
                if any(number(x) in self.live for x in edit.added):
                    return True
                if any(number(x) not in self.live and commit in self.removers(x) for x in edit.removed):
                    return True
        return any(commit in self.known.written[line] | self.known.returned[line] for line in self.live)

    def only_redoes(self, commit: str) -> bool:
        """Whether a commit only restored lines, and removed lines that had been removed before."""
        return not any(edit.written for edit in self._by_commit.get(commit, ()))

    def redoes_only_ours(self, commit: str) -> bool:
        """Whether those lines are all the feature's, and the feature removed the others before."""
        edits = self._by_commit.get(commit, ())
        removed = [self.known.removed[self.known.number(x)] - {commit} for e in edits for x in e.removed]
        return all(self.is_ours(x) for e in edits for x in e.added) and all(by & self.ours for by in removed)

    def wrote(self, merge: str) -> bool:
        """Whether a merge wrote existing lines of its own."""
        return any(self.known.number(x) in self.live for e in self._by_commit.get(merge, ()) for x in e.written)

    def only_takes_back(self, commit: str) -> bool:
        """Whether a commit only removed lines of the feature, and restored lines that the feature had removed."""
        edits = self._by_commit.get(commit, [])
        return bool(edits) and not any(e.written for e in edits) and all(self.is_ours(x) for e in edits for x in e.removed)

    # --- obstacles

    @cached_property
    def changed_since(self) -> dict[int, str]:
        """The existing lines that somebody else made from the feature's: line -> commit."""
        number = self.known.number
        made: dict[int, str] = {}
        for edit in self.known.edits:
            if edit.commit in self.ours:
                continue
            removed = {number(x) for x in edit.removed}
            if any(x in made or self.is_ours(x) for x in removed):
                made |= {number(x): edit.commit for x in edit.written}
                made |= {x: edit.commit for x in self._moved(edit)}
        return {line: commit for line, commit in made.items() if line in self.live}

    def _moved(self, edit: Edit) -> list[int]:
        """Return the feature's own lines that one commit of somebody else removed in one place and wrote in another."""
        texts = self.own_texts(edit)
        others = (e for e in self._by_commit.get(edit.commit, ()) if e is not edit) if texts else ()
        return [self.known.number(x) for e in others for x in e.written if self.known.text[x].strip() in texts]

    def own_texts(self, edit: Edit) -> set[str]:
        """Return the feature's lines a commit removed whose text only it and the feature ever wrote."""
        return self._only_ours((x for x in edit.removed if self.is_ours(x)), edit.commit)

    def written_texts(self) -> set[str]:
        """Return the text that only the feature's commits ever wrote."""
        return self._only_ours((x for edit in self.known.edits if edit.commit in self.ours for x in edit.added), "")

    def _only_ours(self, lines: Iterable[int], commit: str) -> set[str]:
        found = {self.known.text[x].strip() for x in lines}
        return {
            text
            for text in found
            if len(text) >= SHORTEST
            and any(c.isalnum() for c in text)
            and all(
                self.is_ours(x) or self.known.written[self.known.number(x)] <= {commit} for x in self._by_text.get(text, ())
            )
        }

    @cached_property
    def _by_text(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for line, text in enumerate(self.known.text):
            found.setdefault(text.strip(), []).append(line)
        return found

    @cached_property
    def _by_commit(self) -> dict[str, list[Edit]]:
        found: dict[str, list[Edit]] = {}
        for edit in self.known.edits:
            found.setdefault(edit.commit, []).append(edit)
        return found

    @cached_property
    def tangles(self) -> list[Tangle]:
        """Return where the feature's work cannot be separated from others'."""
        number = self.known.number
        found = []
        for version in self.state.values():
            goes = self.is_ours(version.exists)  # wherever somebody moved it
            for line in version.lines if goes else (*version.facts, *version.lines):
                if commit := self.changed_since.get(number(line)):
                    found.append(Tangle(version.path, commit, "changed lines of the feature there"))
        for edit in self.known.edits:
            if edit.commit in self.ours or not any(not self.is_ours(x) for x in edit.dropped):
                continue
            near = [number(x) for x in edit.removed]
            if any(self.is_ours(x) or self.known.removed[x] & self.ours for x in near):
                found.append(Tangle(self._path(edit.file), edit.commit, "dropped lines next to the feature's there"))
        return list(dict.fromkeys(found))

    def _path(self, file: int) -> str:
        number = self.known.number(file)
        for version in self.state.values():
            if self.known.number(version.exists) == number:
                return version.path
        gone = (edit.gone for edit in self.known.edits if edit.gone)
        return next((v.path for v in gone if self.known.number(v.exists) == number), "a file that is gone")

    def others_in(self, version: Version) -> set[str]:
        """Return who else wrote existing lines of a file."""
        lines = [self.known.number(x) for x in version.lines if not self.is_ours(x) and self.known.text[x].strip()]
        return {by for line in lines for by in self.known.written[line] - self.ours if by != BEFORE}
