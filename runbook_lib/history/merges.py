"""Follow files through a merge: which lines it took from which side, and which it wrote or dropped itself. Pure.

This is one of two methods that must agree; the other is git's own reverts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runbook_lib.git import Commit
from runbook_lib.git.command import BYTES, Change, Entry
from runbook_lib.history.provenance import BEFORE, OPAQUE, PLACE, RIGHTS, Edit, Provenance, State, Version, hunks
from runbook_lib.history.verdict import Tangle, Verdict


class Merge:
    """One merge whose sides are already known."""

    def __init__(self, known: Provenance, commit: Commit) -> None:
        self.known = known
        self.commit = commit
        self.sides: list[State] = [known.states.get(parent, {}) for parent in commit.parents]
        self._files: list[dict[int, Version] | None] = [None] * len(self.sides)

    def follow(self, changes: Iterable[Change]) -> None:
        """Process the merge; `changes` are those of the followed files, against its first parent."""
        entries = {path: Entry(v.mode, v.blob) for path, v in self.sides[0].items()}
        changed = list(changes)
        for change in changed:
            if change.status in "DR":
                entries.pop(change.old_path, None)
        entries |= {c.path: Entry(c.mode, c.blob) for c in changed if c.status != "D"}
        moved = {c.path: c.old_path for c in changed if c.status == "R"}
        self.known.states[self.commit.id] = {p: self._file(p, e, moved.get(p, p), entries) for p, e in entries.items()}
        self._dropped()

    def _file(self, path: str, entry: Entry, old_path: str, entries: Mapping[str, Entry]) -> Version:
        versions = [side.get(path) for side in self.sides]
        one = versions[0]
        if one and all(v is one for v in versions) and (one.mode, one.blob) == (entry.mode, entry.blob):
            return one
        if versions[0] is None and old_path != path:
            versions[0] = self.sides[0].get(old_path)
        files = {self.known.number(v.exists) for v in versions if v}
        for n, version in enumerate(versions):
            if version is None:
                there = (self._of(n).get(file) for file in files)
                versions[n] = next((v for v in there if v and v.path not in entries), None)
        if not any(versions):
            return self.known.create(self.commit.id, path, entry)
        return self._merged(path, entry, versions)

    def _merged(self, path: str, entry: Entry, versions: Sequence[Version | None]) -> Version:
        known, commit = self.known, self.commit.id
        there = [v for v in versions if v]
        exists = there[0].exists
        for one in there[1:]:
            exists = known.unite(exists, one.exists)
        place = self._fact(there, PLACE, path)
        rights = self._fact(there, RIGHTS, entry.mode)
        texts = known.texts(entry.mode, entry.blob)
        gaps = {
            n: hunks(known.texts(v.mode, v.blob), texts) if v.blob != entry.blob else [] for n, v in enumerate(versions) if v
        }
        lines = self._lines(texts, versions, gaps, exists)
        live = {known.number(line) for line in lines}
        for n, version in enumerate(versions):
            for a, b, c, d in gaps[n] if version else ():
                assert version
                removed = version.lines[a:b]
                dropped = frozenset(x for x in removed if known.number(x) not in live and self._drops(x, n, versions))
                written = frozenset(x for x in lines[c:d] if known.written[known.number(x)] == {commit})
                if dropped or written:
                    known.note(commit, exists, version.lines, a, removed, lines[c:d], written, dropped)
        return Version(path, entry.mode, entry.blob, exists, place, rights, lines)

    def _fact(self, there: Sequence[Version], kind: int, text: str) -> int:
        same = [v.facts[kind] for v in there if self.known.text[v.facts[kind]] == text]
        if not same:
            return self.known.fact(self.commit.id, there[0], kind, text)
        found = same[0]
        for other in same[1:]:
            found = self.known.unite(found, other)
        return found

    def _lines(
        self,
        texts: Sequence[str],
        versions: Sequence[Version | None],
        gaps: Mapping[int, list[tuple[int, int, int, int]]],
        exists: int,
    ) -> tuple[int, ...]:
        known = self.known
        live = {n: {known.number(line) for line in v.lines} for n, v in enumerate(versions) if v}
        taken: list[int | None] = [None] * len(texts)
        side = [0] * len(texts)
        for n, version in enumerate(versions):
            if version is None:
                continue
            i = j = 0
            for a, b, c, d in [*gaps[n], (len(version.lines), 0, len(texts), 0)]:
                for k in range(min(a - i, c - j)):
                    line = known.number(version.lines[i + k])
                    mine = taken[j + k]
                    if mine is None:
                        taken[j + k], side[j + k] = line, n
                    elif (mine := known.number(mine)) != line and mine not in live[n] and line not in live[side[j + k]]:
                        taken[j + k] = known.unite(mine, line)
                i, j = b, d
        used: set[int] = set()
        for n, found in enumerate(taken):
            if found is not None:
                taken[n] = None if known.number(found) in used else found
                used.add(known.number(found))
        return self._filled(texts, taken, exists)

    def _filled(self, texts: Sequence[str], taken: Sequence[int | None], exists: int) -> tuple[int, ...]:
        lines: list[int] = []
        n = 0
        while n < len(taken):
            if (line := taken[n]) is not None:
                lines.append(line)
                n += 1
                continue
            end = n
            while end < len(taken) and taken[end] is None:
                end += 1
            around = (lines[-1] if lines else None, taken[end] if end < len(taken) else None)
            live = [*lines, *(x for x in taken[end:] if x is not None)]
            lines += self.known.put(self.commit.id, texts[n:end], exists, live, *around)[0]
            n = end
        return tuple(lines)

    def _drops(self, line: int, n: int, versions: Sequence[Version | None]) -> bool:
        """Whether the merge, and none of its other sides, removed a line of side `n`."""
        removed = self.known.removed[self.known.number(line)]
        for other, version in enumerate(versions):
            if other == n or (version and self.known.number(line) in {self.known.number(x) for x in version.lines}):
                continue
            held = self.known.graph.holds(self.commit.parents[other])
            if BEFORE in removed or any(self.known.graph.bit(by) & held for by in removed if by):
                return False
        return True

    def _dropped(self) -> None:
        """Record what is gone with the files that the merge deleted."""
        known = self.known
        left = {known.number(v.exists) for v in known.states[self.commit.id].values()}
        for n in range(len(self.sides)):
            for file, version in self._of(n).items():
                if file in left:
                    continue
                versions = [self._of(k).get(file) for k in range(len(self.sides))]
                facts = [fact for fact in version.facts if self._drops_fact(fact, n, versions)]
                for fact in facts:
                    known.removed[known.number(fact)].add(self.commit.id)
                dropped = frozenset(x for x in version.lines if self._drops(x, n, versions))
                if dropped or facts:
                    known.note(
                        self.commit.id, version.exists, version.lines, 0, version.lines, (), frozenset(), dropped, version
                    )

    def _drops_fact(self, fact: int, n: int, versions: Sequence[Version | None]) -> bool:
        removed = self.known.removed[self.known.number(fact)]
        for other, version in enumerate(versions):
            held = self.known.graph.holds(self.commit.parents[other])
            gone = version is None and (BEFORE in removed or any(self.known.graph.bit(by) & held for by in removed if by))
            if other != n and gone:
                return False
        return True

    def _of(self, n: int) -> dict[int, Version]:
        found = self._files[n]
        if found is None:
            found = self._files[n] = {self.known.number(v.exists): v for v in self.sides[n].values()}
        return found


@dataclass(frozen=True)
class Rebuilt:
    """Path -> the file without the feature (None: gone), where it differs from the tip; and the obstacles."""

    files: Mapping[str, Entry | None]
    tangles: list[Tangle]


class _Rebuild:
    def __init__(self, verdict: Verdict, tip: str) -> None:
        self.verdict = verdict
        self.known = verdict.known
        self.number = verdict.known.number
        self.digest = "sha256" if len(tip) == 64 else "sha1"
        self.files: dict[str, Entry | None] = {}
        self.tangles: list[Tangle] = []
        self.removals: dict[int, list[Edit]] = {}
        for edit in self.known.edits:
            if edit.commit in verdict.ours:
                self.removals.setdefault(self.number(edit.file), []).append(edit)

    def all(self) -> Rebuilt:
        there = {self.number(version.exists): version for version in self.verdict.state.values()}
        made: dict[str, Entry] = {}
        for version in there.values():
            if (entry := self._there(version)) is not None:
                path, found = entry
                if path in made:
                    self._tangled(path, "would be where another file is")
                made[path] = found
        for file, edits in self.removals.items():
            if file not in there and file in self.verdict.pending:
                gone = next((edit.gone for edit in reversed(edits) if edit.gone), None)
                if gone is not None and gone.path in made:
                    self._tangled(gone.path, "would be where another file is")
                elif gone is not None:
                    made[gone.path] = self._entry(gone.mode, self._lines(gone, ()))
        before = {path: Entry(v.mode, v.blob) for path, v in self.verdict.state.items()}
        changed = {p: made.get(p) for p in {*before, *made} if made.get(p) != before.get(p)}
        return Rebuilt(changed, self.tangles)

    def _there(self, version: Version) -> tuple[str, Entry] | None:
        if self.verdict.is_ours(version.exists):
            for commit in sorted(self.verdict.others_in(version)):
                self.tangles.append(Tangle(version.path, commit, "wrote lines in a file that the feature made"))
            return None
        path, mode = self._fact(version, PLACE), self._fact(version, RIGHTS)
        touched = any(self.verdict.is_ours(x) for x in version.lines) or any(
            self.number(x) in self.verdict.pending
            for e in self.removals.get(self.number(version.exists), ())
            for x in e.removed
        )
        if not touched:
            return path, Entry(mode, version.blob)
        return path, self._entry(mode, self._lines(version, version.lines))

    def _fact(self, version: Version, kind: int) -> str:
        """Return what a fact of a file was before the feature changed it."""
        edits = [e for e in self.removals.get(self.number(version.exists), ()) if e.first == -kind]
        earlier = {self.known.text[x] for e in edits for x in e.removed if self.number(x) in self.verdict.pending}
        fact = version.facts[kind]
        if self.verdict.is_ours(fact) and len(earlier) == 1:
            return earlier.pop()
        if self.verdict.is_ours(fact) or earlier:
            self._tangled(version.path, "was moved, or given another mode, by the feature and again since")
        return self.known.text[fact]

    def _lines(self, version: Version, there: tuple[int, ...]) -> list[int]:
        """Return the lines of a file without the feature's, with its removals put back in place."""
        found = [self.number(line) for line in there]
        for edit in reversed(self.removals.get(self.number(version.exists), ())):
            block = [x for x in map(self.number, edit.removed) if x in self.verdict.pending and x not in found]
            if edit.first >= 0 and block:
                at = self._place(edit, found)
                found[at:at] = block
        return [line for line in found if not self.verdict.is_ours(line)]

    def _place(self, edit: Edit, found: list[int]) -> int:
        where = {line: n for n, line in enumerate(found)}
        for line in map(self.number, edit.added):
            if line in where:
                return where[line]
        for line in map(self.number, reversed(edit.version[: edit.first])):
            if line in where:
                return where[line] + 1
        for line in map(self.number, edit.version[edit.first + len(edit.removed) :]):
            if line in where:
                return where[line]
        return 0

    def _entry(self, mode: str, lines: list[int]) -> Entry:
        texts = [self.known.text[line] for line in lines]
        if len(texts) == 1 and texts[0].startswith(OPAQUE):
            return Entry(mode, texts[0].removeprefix(OPAQUE))
        data = "\n".join(texts).encode(BYTES)
        return Entry(mode, hashlib.new(self.digest, b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest())

    def _tangled(self, path: str, why: str) -> None:
        self.tangles.append(Tangle(path, "", why))


def rebuilt(verdict: Verdict, tip: str) -> Rebuilt:
    """Return the files at the tip without what is left of the feature, and with what is pending."""
    return _Rebuild(verdict, tip).all()
