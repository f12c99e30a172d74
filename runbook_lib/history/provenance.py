"""Track who wrote and who removed each line of some files, over a whole graph of commits. Pure.

Every line has a number, which it keeps from version to version, through merges and renames. A line that is restored where it
was removed keeps its number too. So do three facts of a file: its existence, place and mode. Each number knows who wrote,
removed and restored it. No message is read for this.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from runbook_lib.git import Commit
from runbook_lib.git.command import Change, Entry
from runbook_lib.history.graph import Graph

Hunk = tuple[int, int, int, int]  # lines [0]:[1] of the older text became lines [2]:[3] of the newer
MOST = 4_000_000  # pairs of lines to compare where no line is unique; above that, lines count as rewritten


def hunks(old: Sequence[str], new: Sequence[str]) -> list[Hunk]:
    """Return the places where `new` differs from `old`, in order."""
    found, i, j = [], 0, 0
    for a, b, size in [*_blocks(old, new), (len(old), len(new), 0)]:
        if i < a or j < b:
            found.append((i, a, j, b))
        i, j = a + size, b + size
    return found


def merged(base: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> list[str] | None:
    """Merge both sides' changes to `base`; None if they conflict.

    git treats changes of neighbouring lines as a conflict; here only changes of the same lines, or two insertions in one
    place, are.
    """
    mine = [(a, b, tuple(ours[i:j])) for a, b, i, j in hunks(base, ours)]
    others = [(a, b, tuple(theirs[i:j])) for a, b, i, j in hunks(base, theirs)]
    others = [hunk for hunk in others if hunk not in mine]
    if any(_clash(one, other) for one in mine for other in others):
        return None
    changes = sorted([*mine, *others], key=lambda hunk: (hunk[0], hunk[1]))  # an insertion comes before its neighbour
    text: list[str] = []
    at = 0
    for first, end, inserted in changes:
        text += base[at:first]
        text += inserted
        at = max(at, end)
    return [*text, *base[at:]]


def _clash(one: tuple[int, int, tuple[str, ...]], other: tuple[int, int, tuple[str, ...]]) -> bool:
    (a, b, inserted), (c, d, also_inserted) = one, other
    if a == b == c == d:
        return True
    overlap = max(a, c) < min(b, d) or a < c == d < b or c < a == b < d
    return overlap and bool(inserted or also_inserted)


def _blocks(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return what both have in common, as (index in old, index in new, length): patience, then the longest blocks.

    Equally good choices are made the same in both directions: so a revert removes the lines that its commit added.
    """
    if [*old] > [*new]:
        return sorted((a, c, size) for c, a, size in _blocks(new, old))
    blocks: list[tuple[int, int, int]] = []
    ahead = [(0, len(old), 0, len(new))]
    while ahead:
        a, b, c, d = ahead.pop()
        size = _alike(old, new, a, b, c, d)
        if size:
            blocks.append((a, c, size))
        a, c = a + size, c + size
        size = _alike_at_end(old, new, a, b, c, d)
        if size:
            blocks.append((b - size, d - size, size))
        b, d = b - size, d - size
        if a == b or c == d:
            continue
        if anchors := _unique(old, new, a, b, c, d):
            for i, j in anchors:
                ahead.append((a, i, c, j))
                blocks.append((i, j, 1))
                a, c = i + 1, j + 1
            ahead.append((a, b, c, d))
        elif (b - a) * (d - c) <= MOST:
            matcher = SequenceMatcher(None, old[a:b], new[c:d], autojunk=False)
            blocks += [(a + i, c + j, n) for i, j, n in matcher.get_matching_blocks() if n]
    return sorted(blocks)


def _alike(old: Sequence[str], new: Sequence[str], a: int, b: int, c: int, d: int) -> int:
    most = min(b - a, d - c)
    size = 0
    while size < most and old[a + size] == new[c + size]:
        size += 1
    return size


def _alike_at_end(old: Sequence[str], new: Sequence[str], a: int, b: int, c: int, d: int) -> int:
    most = min(b - a, d - c)
    size = 0
    while size < most and old[b - 1 - size] == new[d - 1 - size]:
        size += 1
    return size


def _unique(old: Sequence[str], new: Sequence[str], a: int, b: int, c: int, d: int) -> list[tuple[int, int]]:
    """Return lines that occur once in each, as the longest run that is in order in both."""
    once, also = Counter(old[a:b]), Counter(new[c:d])
    where = {new[j]: j for j in range(c, d)}
    pairs = [(i, where[old[i]]) for i in range(a, b) if once[old[i]] == 1 and also[old[i]] == 1]
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for n, (_, j) in enumerate(pairs):
        k = bisect_left(ends, j)
        before.append(last[k - 1] if k else -1)
        if k == len(ends):
            ends.append(j)
            last.append(n)
        else:
            ends[k], last[k] = j, n
    run, n = [], last[-1] if last else -1
    while n >= 0:
        run.append(pairs[n])
        n = before[n]
    return run[::-1]


BEFORE = ""  # the author of what existed below the graph
PLACE, RIGHTS = 1, 2  # facts of a file; an edit of one starts at its negative
OPAQUE = "\0"  # starts the one line of a file without lines
LARGEST = 8_000_000  # bytes; a larger file counts as one without lines


@dataclass(frozen=True, eq=False)
class Version:
    """A file in a commit: the numbers of its three facts and of its lines."""

    path: str
    mode: str
    blob: str
    exists: int
    place: int
    rights: int
    lines: tuple[int, ...]

    @property
    def facts(self) -> tuple[int, int, int]:
        """Its existence, place and mode."""
        return self.exists, self.place, self.rights


@dataclass(frozen=True, eq=False)
class Edit:
    """A place where a commit changed a file: what it removed and added, and the lines around."""

    commit: str
    file: int
    version: tuple[int, ...]  # the lines before it
    first: int  # index in them of the first removed line
    removed: tuple[int, ...]
    added: tuple[int, ...]
    written: frozenset[int]  # the added lines that are new
    dropped: frozenset[int] = frozenset()  # for a merge: the removed lines that none of its sides had removed
    gone: Version | None = None  # the whole file, where it was deleted


State = Mapping[str, Version]


class Provenance:
    """Follows files through a graph, oldest commit first."""

    def __init__(self, graph: Graph, content: Callable[[str], str]) -> None:
        self.graph = graph
        self.content = content
        self.text: list[str] = []
        self._same: list[int] = []
        self.written: list[set[str]] = []
        self.removed: list[set[str]] = []
        self.returned: list[set[str]] = []
        self.edits: list[Edit] = []
        self.states: dict[str, State] = {}
        self._texts: dict[str, tuple[str, ...]] = {}
        self._gone: dict[str, list[tuple[int, Edit]]] = {}  # text -> removed lines, with the place
        self._lost: dict[str, list[tuple[str, Version]]] = {}  # path -> deleted files, with the commit
        self._linked: dict[tuple[str, Entry], Version] = {}

    # --- numbers

    def number(self, line: int) -> int:
        """Return a line's current number."""
        while self._same[line] != line:
            self._same[line] = self._same[self._same[line]]
            line = self._same[line]
        return line

    def _new(self, text: str, commit: str) -> int:
        self.text.append(text)
        self._same.append(len(self._same))
        self.written.append({commit})
        self.removed.append(set())
        self.returned.append(set())
        return len(self._same) - 1

    def unite(self, one: int, other: int) -> int:
        """Unite two lines, as a merge that holds both as one does."""
        one, other = self.number(one), self.number(other)
        if one != other:
            self._same[other] = one
            for facts in (self.written, self.removed, self.returned):
                facts[one] |= facts[other]
        return one

    def texts(self, mode: str, blob: str) -> tuple[str, ...]:
        """Return the lines of a blob; the last is the text after the last line end, mostly empty."""
        key = f"{mode} {blob}"
        if key not in self._texts:
            text = "" if mode == "160000" else self.content(blob)
            has_none = mode in ("120000", "160000") or "\0" in text[:8000] or len(text) > LARGEST
            self._texts[key] = (OPAQUE + blob,) if has_none else tuple(text.split("\n"))
        return self._texts[key]

    # --- the graph's lower edge

    def begin(self, commit: str, found: Mapping[str, Entry], root: State | None = None) -> State:
        """Start from files below the graph; `root` is the one such state that the others are compared with."""
        state = {}
        for path, entry in found.items():
            if (path, entry) not in self._linked:
                self._linked[path, entry] = self._found(path, entry, (root or {}).get(path))
            state[path] = self._linked[path, entry]
        self.states[commit] = state
        return state

    def _found(self, path: str, entry: Entry, root: Version | None) -> Version:
        texts = self.texts(entry.mode, entry.blob)
        if root is None:
            facts = [self._new(text, BEFORE) for text in ("exists", path, entry.mode)]
            return Version(
                path, entry.mode, entry.blob, facts[0], facts[1], facts[2], tuple(self._new(text, BEFORE) for text in texts)
            )
        old = self.texts(root.mode, root.blob)
        lines: list[int] = []
        at = 0
        for a, b, c, d in [*hunks(old, texts), (len(old), len(old), len(texts), len(texts))]:
            lines += root.lines[at:a]
            for text in texts[c:d]:
                lines.append(self._new(text, BEFORE))
                self.removed[lines[-1]].add(BEFORE)
            at = b
        rights = root.rights if root.mode == entry.mode else self._new(entry.mode, BEFORE)
        return Version(path, entry.mode, entry.blob, root.exists, root.place, rights, tuple(lines))

    # --- commits

    def follow(self, commit: Commit, changes: Iterable[Change]) -> None:
        """Process a non-merge commit after its parent; `changes` are those of the followed files."""
        old = self.states.get(commit.parents[0], {}) if commit.parents else {}
        state = dict(old)
        changed = list(changes)
        for change in changed:
            if change.status in "DR":
                state.pop(change.old_path, None)
        for change in changed:
            before = None if change.status == "A" else old.get(change.old_path)
            if change.status == "D":
                if before:
                    self._delete(commit.id, before)
            elif before is None:
                state[change.path] = self.create(commit.id, change.path, Entry(change.mode, change.blob))
            else:
                state[change.path] = self._change(commit.id, before, change)
        self.states[commit.id] = state

    def create(self, commit: str, path: str, entry: Entry) -> Version:
        """Record a file that a commit added, or added again."""
        texts = self.texts(entry.mode, entry.blob)
        held = self.graph.holds(commit)
        for by, gone in reversed(self._lost.get(path, [])):
            if by == BEFORE or self.graph.bit(by) & held:
                lines, written = self.put(commit, texts, gone.exists, (), None, None)
                if len(written) < len(lines):
                    facts = []
                    for fact, text in zip(gone.facts, ("exists", path, entry.mode), strict=True):
                        again = self.text[fact] == text
                        facts.append(self._back(fact, commit) if again else self._new(text, commit))
                    self.note(commit, facts[0], (), 0, (), lines, written)
                    return Version(path, entry.mode, entry.blob, facts[0], facts[1], facts[2], lines)
                break
        facts = [self._new(text, commit) for text in ("exists", path, entry.mode)]
        lines = tuple(self._new(text, commit) for text in texts)
        self.note(commit, facts[0], (), 0, (), lines, frozenset(lines))
        return Version(path, entry.mode, entry.blob, facts[0], facts[1], facts[2], lines)

    def _delete(self, commit: str, gone: Version) -> None:
        self._lost.setdefault(gone.path, []).append((commit, gone))
        for fact in gone.facts:
            self.removed[self.number(fact)].add(commit)
        self.note(commit, gone.exists, gone.lines, 0, gone.lines, (), frozenset(), gone=gone)

    def _change(self, commit: str, old: Version, change: Change) -> Version:
        place = old.place if change.path == old.path else self.fact(commit, old, PLACE, change.path)
        rights = old.rights if change.mode == old.mode else self.fact(commit, old, RIGHTS, change.mode)
        texts, was = self.texts(change.mode, change.blob), self.texts(old.mode, old.blob)
        lines: list[int] = []
        at = 0
        for a, b, c, d in hunks(was, texts):
            lines += old.lines[at:a]
            around = (old.lines[a - 1] if a else None, old.lines[b] if b < len(old.lines) else None)
            added, written = self.put(commit, texts[c:d], old.exists, old.lines, *around)
            self.note(commit, old.exists, old.lines, a, old.lines[a:b], added, written)
            lines += added
            at = b
        lines += old.lines[at:]
        return Version(change.path, change.mode, change.blob, old.exists, place, rights, tuple(lines))

    def fact(self, commit: str, old: Version, kind: int, text: str) -> int:
        """Return a fact of a file that a commit changed: new, or an earlier one restored."""
        was = self.number(old.facts[kind])
        self.removed[was].add(commit)
        edits = (e for e in self.edits if e.first == -kind and self.number(e.file) == self.number(old.exists))
        earlier = [x for e in edits for x in e.removed if self.text[x] == text and self.number(x) != was]
        new = self._back(earlier[-1], commit) if earlier else self._new(text, commit)
        self.edits.append(Edit(commit, old.exists, (), -kind, (was,), (new,), frozenset(() if earlier else (new,))))
        return new

    def _back(self, line: int, commit: str) -> int:
        number = self.number(line)
        self.returned[number].add(commit)
        return number

    def note(
        self,
        commit: str,
        file: int,
        version: tuple[int, ...],
        first: int,
        removed: tuple[int, ...],
        added: tuple[int, ...],
        written: frozenset[int],
        dropped: frozenset[int] | None = None,
        gone: Version | None = None,
    ) -> None:
        """Record where a commit changed a file; for a merge, `dropped` is what it removed itself."""
        edit = Edit(commit, file, version, first, removed, added, written, dropped or frozenset(), gone)
        self.edits.append(edit)
        for line in removed if dropped is None else dropped:
            self.removed[self.number(line)].add(commit)
            self._gone.setdefault(self.text[line], []).append((line, edit))

    def put(
        self, commit: str, texts: Sequence[str], file: int, there: Sequence[int], before: int | None, after: int | None
    ) -> tuple[tuple[int, ...], frozenset[int]]:
        """Return the lines a commit puts between two others: lines removed there are restored, the others are new."""
        found: dict[int, int] = {}
        if any(any(c.isalnum() for c in text) for text in texts):
            live = {self.number(line) for line in there}
            held = self.graph.holds(commit)
            for edit in self._removed_there(texts, file, held, before, after):
                again = tuple(self.number(line) for line in edit.removed)
                was = [self.text[line] for line in edit.removed]
                i = j = 0
                for a, b, c, d in [*hunks(was, texts), (len(was), 0, len(texts), 0)]:
                    for k in range(min(a - i, c - j)):
                        if j + k not in found and again[i + k] not in live:
                            found[j + k] = again[i + k]
                            live.add(again[i + k])
                    i, j = b, d
        lines = tuple(
            self._back(found[n], commit) if n in found else self._new(text, commit) for n, text in enumerate(texts)
        )
        return lines, frozenset(line for n, line in enumerate(lines) if n not in found)

    def _removed_there(
        self, texts: Sequence[str], file: int, held: int, before: int | None, after: int | None
    ) -> list[Edit]:
        """Find where some lines were removed from this place or, all of them, from this file; latest first."""
        seen: dict[int, Edit] = {}
        for text in dict.fromkeys(text for text in texts if any(c.isalnum() for c in text)):
            for _, edit in self._gone.get(text, [])[-20:]:
                if self.number(edit.file) == self.number(file) and self.graph.bit(edit.commit) & held:
                    seen[id(edit)] = edit
        return [edit for edit in reversed(seen.values()) if self._is_there(edit, texts, before, after)]

    def _is_there(self, edit: Edit, texts: Sequence[str], before: int | None, after: int | None) -> bool:
        end = edit.first + len(edit.removed)
        around = (
            edit.version[edit.first - 1] if edit.first else None,
            edit.version[end] if end < len(edit.version) else None,
        )
        near = any(
            one is not None and other is not None and self.number(one) == self.number(other)
            for one, other in zip(around, (before, after), strict=True)
        )
        return near or around == (None, None) or [self.text[line] for line in edit.removed] == list(texts)
