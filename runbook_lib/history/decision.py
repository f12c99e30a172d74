"""Decide the action for each commit, from what was read of a history."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from runbook_lib.git import Checkout, Commit
from runbook_lib.git.command import BYTES, contents, entries
from runbook_lib.history.looking import Answers, Look, own_changes, says_revert
from runbook_lib.history.matching import OWN, How, Named
from runbook_lib.history.merges import Rebuilt, rebuilt
from runbook_lib.history.provenance import Edit
from runbook_lib.history.verdict import Tangle, Verdict

MOST_LISTED = 5  # names in a sentence


class Action(StrEnum):
    """The action for a commit; a closed list."""

    REVERT = "revert"
    REVERT_MERGE = "revert-merge"
    GOES_WITH_MERGE = "goes-with-merge"
    ALREADY_REVERTED = "already-reverted"
    KEEP = "keep"
    ASK = "ask"


class Status(StrEnum):
    """The result of a look; a closed list."""

    READY = "ready"
    NOTHING = "nothing"
    ASK = "ask"
    REFUSED = "refused"


@dataclass(frozen=True)
class Finding:
    """A commit that concerns the feature: how it was found, the action, and the reason."""

    commit: Commit
    found_by: How
    action: Action
    why: str


@dataclass(frozen=True)
class Refusal:
    """Why nothing is made, and the files that cause it."""

    because: str
    files: Sequence[str] = ()


@dataclass(frozen=True)
class TakeBack:
    """What would be reverted at a tip, and the open questions."""

    tip: str
    findings: Sequence[Finding] = ()
    reverts: Sequence[Commit] = ()  # newest first
    refused: Refusal | None = None
    below: str = ""  # the commit below the feature's oldest on the main line
    on_top: Sequence[Commit] = ()  # commits above that which are not the feature's
    rebuilt: Rebuilt = field(default_factory=lambda: Rebuilt({}, []))

    @property
    def asks(self) -> list[Finding]:
        """The commits that somebody must decide about."""
        return [finding for finding in self.findings if finding.action is Action.ASK]

    @property
    def in_effect(self) -> list[Commit]:
        """The feature's commits that are in effect, or may be."""
        if self.refused and not self.reverts:
            return [f.commit for f in self.findings if f.found_by in OWN]
        return [*self.reverts, *(finding.commit for finding in self.asks)]

    @property
    def status(self) -> Status:
        """Whether the feature can be taken back."""
        if self.asks:
            return Status.ASK
        if self.refused:
            return Status.REFUSED
        return Status.READY if self.reverts else Status.NOTHING


def shown(path: str) -> str:
    """Decode a path, read byte for byte, for printing."""
    return path.encode(BYTES).decode(errors="replace")


def listed(items: Sequence[str]) -> str:
    """List the first few names, and how many more there are."""
    return ", ".join(items[:MOST_LISTED]) + (f" and {len(items) - MOST_LISTED} more" if len(items) > MOST_LISTED else "")


Signature = frozenset[tuple[int, tuple[str, ...], tuple[str, ...]]]  # file, removed, added
MOST = 5  # commits in a sentence


class Decision:
    """Decides from what was read of a history."""

    def __init__(self, checkout: Checkout, look: Look, answers: Answers) -> None:
        self.checkout = checkout
        self.look = look
        self.graph = look.graph
        self.names = look.names
        self.answers = answers
        self.tip = look.graph.log[0].id
        self.copies: dict[str, Named] = {}
        self.questions: dict[str, Named] = {}

    def made(self) -> TakeBack:
        """Return the action for each commit, and what blocks it. Read-only."""
        verdict = self._settled()
        asked = {i: n for i, n in self.names.asked.items() if i not in self.copies and self._matters(verdict, i)}
        self.questions |= asked | self._merges_with_changes(verdict)
        result = rebuilt(verdict, self.tip)
        taken, with_merge, alone = self._taken(verdict)
        findings = self._findings(verdict, taken, with_merge)
        tangles = [*verdict.tangles, *result.tangles, *self._moved_away(verdict), *self._copied(verdict)]
        refused = self._refusal(tangles, alone)
        below, on_top = self._on_top(taken, findings)
        return TakeBack(self.tip, findings, taken, refused, below, on_top, result)

    def _on_top(self, taken: Sequence[Commit], findings: Sequence[Finding]) -> tuple[str, list[Commit]]:
        """Return the commit below the oldest of these on the main line, and the commits above it that are others'."""
        if not taken:
            return "", []
        bits = self.graph.bits([commit.id for commit in taken])
        line = [c for c in self.graph.main_line if self.graph.holds(c.id) & bits]
        below = line[-1].parents[0] if line[-1].parents else ""
        above = self.graph.holds(self.tip) & ~self.graph.holds(below)
        own = {f.commit.id for f in findings if f.found_by in OWN or f.found_by is How.REVERTS}
        merges = {c.id for c in self.graph.commits(above) if c.is_merge}
        return below, [c for c in self.graph.commits(above) if c.id not in own | merges]

    def _merges_with_changes(self, verdict: Verdict) -> dict[str, Named]:
        """Return merges that name the feature, also brought others' work, and change something by themselves."""
        found = {}
        for merge, named in self.names.merges.items():
            if not named.is_settled or merge in {*verdict.ours, *self.answers.exclude} or merge not in self.look.changes:
                continue
            own = own_changes(self._commit(merge), self.graph, self.look.changes)
            if own or verdict.wrote(merge):
                where = f" ({listed([shown(path) for path in sorted(own)])})" if own else ""
                found[merge] = Named(named.how, f"{named.why}, also brought others' work, and changes files itself{where}")
        return found

    def _matters(self, verdict: Verdict, commit: str) -> bool:
        return verdict.has_effect(commit) and not verdict.only_takes_back(commit)

    def _settled(self) -> Verdict:
        """Return the verdict once it is known who restored the feature, and which commits make the same change."""
        inside = [c.id for m in self.look.whole for c in self.graph.commits(self._brought(m)) if c.is_merge]
        ours = {*self.names.ours, *self.look.whole, *inside}
        neutral: set[str] = set()
        while True:
            verdict = Verdict(self.look.known, self.tip, ours, {*self.names.kept, *self.names.excluded}, neutral)
            more = {}
            for commit in verdict.put_back:
                reverts = commit in self.names.reverts or says_revert(self._commit(commit))
                ours_alone = self._is_followed(commit) and verdict.redoes_only_ours(commit)
                if reverts and verdict.only_redoes(commit) and not ours_alone:
                    neutral.add(commit)
                elif reverts:
                    more[commit] = Named(How.REAPPLIED, "it restores lines of the feature that were taken back")
            more |= {i: n for i, n in self._same_changes(ours).items() if n.how is How.SAME_CHANGE}
            if not more and neutral == verdict.neutral:
                break
            self.copies |= more
            ours |= set(more)
        for commit in verdict.put_back:
            self.questions[commit] = Named(How.REAPPLIED, "it restores lines of the feature, and does not name it")
        self.questions |= {i: n for i, n in self._same_changes(ours).items() if verdict.has_effect(i)}
        return verdict

    def _same_changes(self, ours: Collection[str]) -> dict[str, Named]:
        """Return commits that make exactly the same change as one of the feature's."""
        by_change = {change: i for i, change in self._changes_made.items() if i in self.names.ours}
        found = {}
        for commit, change in self._changes_made.items():
            source = by_change.get(change)
            if source is None or commit in {*ours, *self.answers.exclude, *self.names.kept}:
                continue
            one, other = self._commit(source), self._commit(commit)
            known = one.author == other.author or commit in self.names.reverts
            how = How.SAME_CHANGE if known else How.MENTION
            found[commit] = Named(how, f"it makes the same change as {source[:12]}")
        return found

    @cached_property
    def _changes_made(self) -> dict[str, Signature]:
        """Map each non-merge commit to what it removes and adds, file by file, if it changes nothing else."""
        known = self.look.known
        made: dict[str, list[Edit]] = {}
        for edit in known.edits:
            made.setdefault(edit.commit, []).append(edit)
        found = {}
        for commit, edits in made.items():
            texts = [[known.text[x] for x in (*e.removed, *e.added)] for e in edits]
            telling = any(any(c.isalnum() for c in text) for each in texts for text in each)
            if telling and self._is_followed(commit) and not self._commit(commit).is_merge:
                found[commit] = frozenset(
                    (known.number(e.file), tuple(known.text[x] for x in e.removed), tuple(known.text[x] for x in e.added))
                    for e in edits
                )
        return found

    def _is_followed(self, commit: str) -> bool:
        """Whether every file that a commit changes was followed."""
        paths = {path for c in self.look.changes.get(commit, ()) for path in (c.path, c.old_path)}
        return paths <= set(self.look.paths)

    def _taken(self, verdict: Verdict) -> tuple[list[Commit], dict[str, str], list[str]]:
        """Return the commits to revert, newest first; those reverted with a merge; merges that cannot be reverted alone."""
        needed = set(verdict.to_revert)
        taken: list[str] = []
        with_merge: dict[str, str] = {}
        for merge in self.graph.log:
            if merge.id not in self.look.whole or merge.id in with_merge:
                continue
            inside = {c.id for c in self.graph.commits(self._brought(merge.id))}
            if needed & (inside | {merge.id}) and self._is_all_there(verdict, merge, inside, needed):
                taken.append(merge.id)
                with_merge |= dict.fromkeys(inside, merge.id)
        rest = needed - set(with_merge) - set(taken)
        alone = [i for i in rest if self._commit(i).is_merge]
        every = sorted([*taken, *(rest - set(alone))], key=lambda i: self.graph.index[i])
        return [self._commit(i) for i in every], with_merge, alone

    def _is_all_there(self, verdict: Verdict, merge: Commit, inside: set[str], needed: set[str]) -> bool:
        """Whether the merge alone brought exactly what must go of these commits, and none of it is gone since."""
        if self._brought(merge.id) & self.graph.elsewhere(merge):
            return False  # work based on it elsewhere would have to be reverted first
        before, after = (self._lines_at(i) for i in (merge.parents[0], merge.id))
        added, removed = after - before, before - after
        if any(not verdict.is_ours(x) for x in added) or any(verdict.is_ours(x) for x in removed):
            return False
        if any(x not in verdict.live and not verdict.removers(x) <= needed for x in added):
            return False
        owned = {x for x, by in verdict.owners.items() if by in inside}
        return owned <= added | removed

    def _lines_at(self, commit: str) -> set[int]:
        state = self.look.known.states.get(commit, {})
        return {self.look.known.number(x) for v in state.values() for x in (*v.facts, *v.lines)}

    def _findings(self, verdict: Verdict, taken: Sequence[Commit], with_merge: Mapping[str, str]) -> list[Finding]:
        reverted = {commit.id for commit in taken}
        ours = {**self.names.ours, **self.copies}
        found = []
        for commit in self.graph.log:
            i = commit.id
            if i in self.questions:
                found.append(Finding(commit, self.questions[i].how, Action.ASK, self.questions[i].why))
            elif i in with_merge and i in ours:
                why = f"{ours[i].why}; it goes with the merge {with_merge[i][:12]}"
                found.append(Finding(commit, ours[i].how, Action.GOES_WITH_MERGE, why))
            elif commit.is_merge:
                found += self._merge(commit, i in reverted, ours)
            elif i in reverted:
                found.append(Finding(commit, ours[i].how, Action.REVERT, ours[i].why))
            elif i in ours:
                found.append(Finding(commit, ours[i].how, Action.ALREADY_REVERTED, self._gone(verdict, i)))
            elif named := self.names.reverts.get(i):
                found.append(Finding(commit, named.how, Action.KEEP, named.why))
            elif named := self.names.excluded.get(i):
                found.append(Finding(commit, named.how, Action.KEEP, "it was named as not the feature's"))
            elif named := self.names.asked.get(i):
                found.append(Finding(commit, named.how, Action.KEEP, self._kept(verdict, i)))
        return found

    def _kept(self, verdict: Verdict, commit: str) -> str:
        return "it only takes the feature back" if verdict.only_takes_back(commit) else "nothing of it is left"

    def _merge(self, merge: Commit, is_reverted: bool, ours: Mapping[str, Named]) -> list[Finding]:
        named = self.names.merges.get(merge.id) or Named(How.MERGED, "it brought commits of the feature")
        brought = [c for c in self.graph.commits(self._brought(merge.id)) if not c.is_merge]
        if is_reverted:
            why = f"{named.why}; all {len(brought)} commits that it brought are the feature's"
            return [Finding(merge, named.how, Action.REVERT_MERGE, why)]
        others = [c for c in brought if c.id not in ours and c.id not in self.names.reverts]
        on_main_line = merge in self._main_line and any(c.id in ours for c in brought)
        if merge.id not in self.names.merges and not (on_main_line and others):
            return []
        what = "; ".join(f"{c.id[:12]} {c.subject}" for c in others[:MOST]) + ("; …" if len(others) > MOST else "")
        reported = (
            f"it also brought {len(others)} that are not the feature's: {what}"
            if others
            else "its commits count by themselves"
        )
        return [Finding(merge, named.how, Action.KEEP, f"{named.why}; {reported}")]

    @cached_property
    def _main_line(self) -> set[Commit]:
        return set(self.graph.main_line)

    def _gone(self, verdict: Verdict, commit: str) -> str:
        edits = [edit for edit in self.look.known.edits if edit.commit == commit]
        if not edits:
            return "it changes nothing"
        by = {i for e in edits for x in e.added for i in verdict.removers(x)} - {""}
        removed = sorted(by, key=lambda i: self.graph.index[i])
        if any(self.look.known.number(x) in verdict.live for e in edits for x in e.added):
            return "what it adds is reverted with another commit that adds the same"
        return f"nothing of it is left: {removed[0][:12]} removed it" if removed else "nothing of it is left"

    def _moved_away(self, verdict: Verdict) -> list[Tangle]:
        """Return files, not followed so far, into which somebody moved lines of the feature."""
        texts: dict[str, set[str]] = {}
        for edit in self.look.known.edits:
            if (
                edit.commit not in verdict.ours
                and not self._commit(edit.commit).is_merge
                and (own := verdict.own_texts(edit))
            ):
                texts.setdefault(edit.commit, set()).update(own)
        paths = {c.path: i for i in texts for c in self.look.changes.get(i, ()) if c.path not in self.look.paths}
        if not paths:
            return []
        there = entries(self.checkout.git, self.tip, sorted(paths))
        files = contents(self.checkout.git, [entry.blob for entry in there.values() if entry.mode.startswith("100")])
        return [
            Tangle(path, paths[path], "moved lines of the feature there")
            for path, entry in there.items()
            if entry.blob in files and texts[paths[path]] & {line.strip() for line in files[entry.blob].split("\n")}
        ]

    def _copied(self, verdict: Verdict) -> list[Tangle]:
        """Return files, not followed so far, that a merge wrote by itself and that hold text only the feature wrote."""
        merges = [c for c in self.graph.log if c.is_merge and self._brought(c.id) & self.graph.bits(list(verdict.ours))]
        by_itself = {path: m.id for m in merges for path in own_changes(m, self.graph, self.look.changes)}
        paths = sorted(set(by_itself) - set(self.look.paths))
        there = entries(self.checkout.git, self.tip, paths) if paths else {}
        files = contents(self.checkout.git, [entry.blob for entry in there.values() if entry.mode.startswith("100")])
        made = {c.blob for i in verdict.ours for c in self.look.changes.get(i, ()) if c.status != "D"}
        texts = verdict.written_texts() if there else set()
        return [
            Tangle(path, by_itself[path], "has what the feature wrote into another file")
            for path, entry in there.items()
            if entry.blob in made or texts & {line.strip() for line in files.get(entry.blob, "").split("\n")}
        ]

    def _refusal(self, tangles: Sequence[Tangle], alone: Sequence[str]) -> Refusal | None:
        if tangles:
            files = list(dict.fromkeys(shown(tangle.path) for tangle in tangles))
            by = list(dict.fromkeys(f"{self._said(t.commit)} {t.why}" for t in tangles))
            return Refusal(
                f"The feature's work conflicts with later work in: {listed(files)}. {'; '.join(by[:MOST])}.", files
            )
        if alone:
            said = "; ".join(map(self._said, alone[:MOST]))
            return Refusal(f"A merge has changes of its own that cannot be taken back by themselves: {said}.")
        return None

    def _said(self, commit: str) -> str:
        return f"{commit[:12]} ({self._commit(commit).subject})" if commit else "a file"

    def _commit(self, commit: str) -> Commit:
        return self.graph.log[self.graph.index[commit]]

    def _brought(self, merge: str) -> int:
        return self.graph.brought(self._commit(merge))
