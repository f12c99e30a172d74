"""Read a repository for a feature: its commits, and what is left of each. Read-only."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from runbook_lib.git import Checkout, Commit
from runbook_lib.git.command import Change, changes, contents, entries, stale_entries
from runbook_lib.history.graph import Graph
from runbook_lib.history.matching import How, Matcher, Named, keys, title
from runbook_lib.history.merges import Merge
from runbook_lib.history.provenance import Provenance

KEEPS = "Keep migration {version}: the schema it made stays"
_KEEPS = re.compile(r"Keep migration .+: the schema it made stays")
_REVERTS = re.compile(r"This reverts commit ([0-9a-f]{7,64})")
_QUOTED = re.compile(r"(?:Revert|Reapply) \"(.+)\"(?: \(#\d+\))?")
_PICKED = re.compile(r"\(cherry picked from commit ([0-9a-f]{7,64})\)")


@dataclass(frozen=True)
class Answers:
    """People's answers about commits: full id -> how it is known."""

    include: Mapping[str, str] = field(default_factory=dict)
    exclude: Collection[str] = ()


@dataclass
class Names:
    """What messages and answers show: the feature's commits, commits to ask about, merges and reverts that name it."""

    ours: dict[str, Named] = field(default_factory=dict)
    asked: dict[str, Named] = field(default_factory=dict)
    merges: dict[str, Named] = field(default_factory=dict)
    reverts: dict[str, Named] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)  # commits that deliberately keep a part of the feature
    excluded: dict[str, Named] = field(default_factory=dict)

    @property
    def all(self) -> set[str]:
        """Every commit that is mentioned."""
        return {*self.ours, *self.asked, *self.merges, *self.reverts, *self.excluded}


def names(graph: Graph, feature: str, answers: Answers, elsewhere: Callable[[str], Commit | None]) -> Names:
    """Sort the commits by their messages and the answers. Read-only.

    Args:
        elsewhere: Finds a commit of the repository outside the graph, by its id.
    """
    matcher, found = Matcher(feature, keys(f"{commit.subject}\n{commit.body}" for commit in graph.log)), Names()
    for commit in graph.log:
        named = matcher.named(commit.subject, commit.body, is_merge=commit.is_merge)
        if _KEEPS.fullmatch(commit.subject):
            found.kept.add(commit.id)
        elif how := answers.include.get(commit.id):
            (found.merges if commit.is_merge else found.ours)[commit.id] = Named(How.INCLUDED, how)
        elif commit.is_merge:
            if named:
                found.merges[commit.id] = named
        elif commit.id in answers.exclude:
            found.excluded[commit.id] = named or Named(How.MENTION, "it was asked about")
        elif named and named.is_settled:
            found.ours[commit.id] = named
        elif named and named.how is How.REVERTS:
            found.reverts[commit.id] = named
        elif named:
            found.asked[commit.id] = named
    _picked(graph, matcher, found, answers, elsewhere)
    _reverting(graph, found, answers)
    _merged(graph, matcher, found, answers)
    return found


def _full(graph: Graph, name: str) -> str | None:
    if name in graph.index:
        return name
    return next((i for i in graph.index if i.startswith(name)), None) if len(name) < 40 else None


def _picked(
    graph: Graph, matcher: Matcher, found: Names, answers: Answers, elsewhere: Callable[[str], Commit | None]
) -> None:
    """Add cherry-picks of the feature's commits that do not name it themselves."""
    for commit in reversed(graph.log):
        match = _PICKED.search(commit.body)
        if not match or commit.is_merge or commit.id in found.ours or commit.id in answers.exclude:
            continue
        source = _full(graph, match[1])
        other = None if source else elsewhere(match[1])
        named = matcher.named(other.subject, other.body) if other else None
        if (source and source in found.ours) or (named and named.is_settled):
            found.asked.pop(commit.id, None)
            found.ours[commit.id] = Named(How.CHERRY_PICK, f"it was cherry-picked from {match[1][:12]}")


def _reverting(graph: Graph, found: Names, answers: Answers) -> None:
    """Add reverts, and reverts of those, by git's sentence in the body or by the quoted subject."""
    titles = {c.subject: c.id for c in graph.log if c.id in found.ours or c.id in found.reverts or c.id in found.merges}
    titles |= {title(c.body): c.id for c in graph.log if c.id in found.merges}
    for commit in reversed(graph.log):
        targets = [target for target in map(lambda name: _full(graph, name), _REVERTS.findall(commit.body)) if target]
        ours = [t for t in targets if t in found.ours or t in found.reverts or t in found.merges]
        if not ours and (match := _QUOTED.fullmatch(commit.subject)):
            ours = [titles[match[1]]] if match[1] in titles else []
        by_itself = commit.id not in found.asked or commit.body.lstrip().startswith("This reverts commit")
        if ours and by_itself and commit.id not in {*found.ours, *found.merges, *answers.exclude}:
            found.asked.pop(commit.id, None)
            found.reverts[commit.id] = Named(How.REVERTS, f"it reverts {ours[0][:12]}")


def says_revert(commit: Commit) -> bool:
    """Whether a message says, in the form of git or a host, that it reverts something."""
    return bool(_REVERTS.search(commit.body) or commit.subject.startswith(("Revert ", "Reapply ")))


def _merged(graph: Graph, matcher: Matcher, found: Names, answers: Answers) -> None:
    """Ask about unnamed commits that only a merge of the feature's branch brought."""
    for commit in graph.log:
        named = found.merges.get(commit.id)
        included = bool(named and named.how is How.INCLUDED)
        if not named or not (included or matcher.source(commit.subject, commit.body)):
            continue
        for brought in graph.commits(graph.brought(commit) & ~graph.elsewhere(commit)):
            settled = brought.id in found.all or brought.id in answers.exclude or brought.is_merge
            if settled or matcher.names_another(brought.subject, brought.body):
                continue
            if included:
                found.ours[brought.id] = Named(How.INCLUDED, f"the merge {commit.id[:12]}, which was named, brought it")
            else:
                why = f"the merge {commit.id[:12]} of the feature's branch brought it, and it names nothing"
                found.asked[brought.id] = Named(How.MERGED, why)


@dataclass(frozen=True)
class Look:
    """What was read of a repository."""

    graph: Graph
    names: Names
    changes: Mapping[str, list[Change]]  # of each commit since the oldest that concerns the feature
    paths: Collection[str]  # of the followed files
    known: Provenance
    whole: Collection[str]  # merges that brought only commits of the feature


def read(checkout: Checkout, graph: Graph, found: Names) -> Look:
    """Read the files that the feature's commits touch, in every commit since the oldest of them. Read-only."""
    concerned = [commit for commit in graph.log if commit.id in found.all]
    below = _below(graph, concerned)
    tip = graph.log[0].id
    raw = changes(checkout.git, tip, below)
    whole = {c.id for c in graph.log if c.is_merge and c.id in raw and _is_whole(c, graph, found, raw)}
    paths = touched(raw, whole | {c.id for c in concerned if not c.is_merge})
    kept = {i: [c for c in each if c.path in paths or c.old_path in paths] for i, each in raw.items()}
    edges = {p for i in raw for p in graph.log[graph.index[i]].parents if p not in raw}
    under = {below: entries(checkout.git, below, sorted(paths))} if below else {}
    others = stale_entries(checkout.git, sorted(edges - {below}), sorted(paths))
    blobs = {c.blob for each in kept.values() for c in each if c.status != "D" and c.mode != "160000"}
    blobs |= {e.blob for files in [*under.values(), *others.values()] for e in files.values() if e.mode != "160000"}
    texts = contents(checkout.git, blobs)
    known = Provenance(graph, lambda blob: texts[blob])
    root = known.begin(below, under[below]) if below else {}
    for edge in sorted(edges - {below}):
        known.begin(edge, others[edge], root)
    for commit in reversed(graph.log):
        if commit.id in raw:
            _follow(known, commit, kept[commit.id])
    return Look(graph, found, raw, paths, known, whole)


def _is_whole(merge: Commit, graph: Graph, found: Names, raw: Mapping[str, list[Change]]) -> bool:
    """Whether a merge brought only the feature's commits, and either changes nothing else or names the feature."""
    brought = [commit for commit in graph.commits(graph.brought(merge)) if not commit.is_merge]
    ours = all(c.id in found.ours or c.id in found.reverts or not raw.get(c.id) for c in brought)
    if not ours or not any(c.id in found.ours for c in brought):
        return False
    named = found.merges.get(merge.id)
    if named and (named.is_settled or named.how is How.INCLUDED):
        return True
    return not own_changes(merge, graph, raw)


def own_changes(merge: Commit, graph: Graph, raw: Mapping[str, list[Change]]) -> set[str]:
    """Return the files that a merge changes and no commit it brought does."""
    brought = {commit.id for commit in graph.commits(graph.brought(merge))}
    return {change.path for change in raw.get(merge.id, ())} - touched(raw, brought)


def _follow(known: Provenance, commit: Commit, changed: list[Change]) -> None:
    sides = [known.states.get(parent, {}) for parent in commit.parents]
    if not changed and sides and all(side is sides[0] for side in sides):
        known.states[commit.id] = sides[0]
    elif commit.is_merge:
        Merge(known, commit).follow(changed)
    else:
        known.follow(commit, changed)


def _below(graph: Graph, concerned: Iterable[Commit]) -> str:
    """Return the newest common ancestor of all of these, "" if there is none."""
    common = -1
    for commit in concerned:
        for parent in commit.parents or ("",):
            common &= graph.holds(parent)
    return next((commit.id for commit in graph.commits(common)), "") if common > 0 else ""


def touched(raw: Mapping[str, list[Change]], commits: Collection[str]) -> set[str]:
    """Return the paths that commits touch, under every name that these files ever had."""
    paths = {path for i in commits for change in raw.get(i, ()) for path in (change.path, change.old_path)}
    moves = [(c.old_path, c.path) for each in raw.values() for c in each if c.status == "R"]
    while True:
        more = {path for pair in moves if paths & {*pair} for path in pair} - paths
        if not more:
            return paths
        paths |= more
