"""Computes the net change that migrations made, and merges its reversal with the live catalog. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from runbook_lib.postgres.changes.kinds import KINDS
from runbook_lib.postgres.changes.objects import Catalog, Object, changed, literal
from runbook_lib.postgres.changes.types import relabelled


@dataclass(frozen=True)
class Refusal:
    """Why something cannot be undone without a person's decision; `rows` are keys or values of example rows."""

    object: str
    why: str
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rename:
    """A renamed object, before and after."""

    after: Object
    before: Object

    @property
    def labels(self) -> dict[str, str]:
        """Return an enum's renamed labels: new -> old."""
        return relabelled(self.before, self.after) if self.before.kind == "type" else {}

    @property
    def is_moved(self) -> bool:
        """Report whether it has another name or is in another schema."""
        return (self.before.schema, self.before.name) != (self.after.schema, self.after.name)


@dataclass(frozen=True)
class Change:
    """What migrations did to one object: `before` is None if created, `after` is None if dropped."""

    key: str
    before: Object | None
    after: Object | None

    @property
    def what(self) -> Literal["created", "dropped", "retyped", "changed"]:
        """Name the change in one word."""
        if self.before is None:
            return "created"
        if self.after is None:
            return "dropped"
        return "retyped" if self.before.kind == "column" and "type" in changed(self.after, self.before) else "changed"


def renames(before: Catalog, after: Catalog) -> list[Rename]:
    """Find the objects with other names than before, tables first. Pure."""
    found = []
    for ident, was in before.by_id.items():
        now = after.by_id.get(ident)
        if now is None or not now.name:
            continue
        if was.kind in IN_A_TABLE or was.parent:
            now = replace(now, schema=was.schema)  # it follows its table
        rename = Rename(now, was)
        if rename.is_moved or rename.labels:
            found.append(rename)
    return sorted(found, key=lambda each: each.before.kind in IN_A_TABLE)


Renames = Callable[[Catalog, Catalog], list[Rename]]  # finds renamed objects in two catalogs


IN_A_TABLE = ("column", "constraint", "index", "trigger", "policy", "rule")


def named_now(address: str, renames: Iterable[Rename]) -> str:
    """Return the address, after the renames, of the object that had this address before. Pure."""
    for rename in renames:
        before = rename.before.address
        if address == before or address.startswith(f"{before}."):
            address = rename.after.address + address.removeprefix(before)
    return address


def net_changes(before: Catalog, after: Catalog) -> list[Change]:
    """Find the differences that remain once renames are undone. Pure."""
    found = []
    for key in {**before.objects, **after.objects}:
        was, now = before.get(key), after.get(key)
        if was is None or now is None or not was.like(now):
            found.append(Change(key, was, now))
    return found


Goal = Mapping[str, Object | None]


@dataclass(frozen=True)
class Merge:
    """The expected objects by key (None: dropped), what was changed since, and what is left as it is."""

    goal: Goal
    refusals: list[Refusal] = field(default_factory=list)
    since: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def merge(changes: list[Change], live: Catalog) -> Merge:
    """Undo changes where the live catalog still has them. Pure."""
    goal: dict[str, Object | None] = {}
    refusals, since, left = list[Refusal](), list[str](), list[str]()
    for change in changes:
        actual = live.get(change.key)
        if change.key.startswith("other "):
            refusals.append(
                Refusal(change.key.removeprefix("other "), f"it was {change.what}, and its kind is not supported")
            )
        elif change.before is None:
            if actual is not None:
                goal[change.key] = None
                if change.after and not actual.like(change.after) and actual.kind not in ("rights", "comment"):
                    since.append(f"{change.key} was changed since")
        elif change.after is None:
            if actual is None and change.before.definition.get("valid") is False:
                left.append(f"{change.key} was INVALID, and is not rebuilt")
            elif actual is None:
                goal[change.key] = change.before
            elif not actual.like(change.before):
                refusals.append(Refusal(change.before.name, f"{change.key} was dropped, and another was created since"))
        elif actual is None:
            parent = change.before.parent
            if parent and live.get(parent) is None:
                continue
            refusals.append(Refusal(change.before.name, f"{change.key} was changed, and was dropped since"))
        else:
            merged, conflicts = _merged(change.before, change.after, actual)
            if conflicts:
                why = f"{change.key} was changed, and {', '.join(sorted(conflicts))} again by others since"
                refusals.append(Refusal(change.before.name or change.key, why))
            elif not merged.like(actual):
                goal[change.key] = merged
    return Merge(goal, refusals, since, left)


def _merged(before: Object, after: Object, actual: Object) -> tuple[Object, set[str]]:
    definition, conflicts = dict(actual.definition), set[str]()
    for name in changed(before, after):
        was, made, now = (each.definition.get(name) for each in (before, after, actual))
        if now == made:
            if name in before.definition:
                definition[name] = was
            else:
                definition.pop(name, None)
        elif now != was:
            conflicts.add(name)
    keeps = before.keeps if definition == before.definition else actual.keeps
    return replace(actual, definition=definition, keeps={**keeps}), conflicts


def in_turn(named: Iterable[tuple[Rename, Object]]) -> list[str]:
    """Build the statements that restore earlier names; objects that swapped names get temporary ones. Pure."""
    pairs = [
        (rename, actual, replace(actual, name=rename.before.name, schema=rename.before.schema)) for rename, actual in named
    ]
    taken = {(actual.kind, actual.parent, actual.schema, actual.name) for _, actual, _ in pairs}
    first, then = list[str](), list[str]()
    for place, (rename, actual, goal) in enumerate(pairs):
        rename_ = KINDS[actual.kind].rename
        if (goal.kind, goal.parent, goal.schema, goal.name) in taken and rename.is_moved:
            meanwhile = replace(actual, name=f"runbook_renamed_{place}")
            first += rename_(actual, meanwhile)
            then += rename_(meanwhile, goal)
        elif rename.is_moved:
            then += rename_(actual, goal)
        then += [
            f"ALTER TYPE {goal.quoted} RENAME VALUE {literal(new)} TO {literal(old)}" for new, old in rename.labels.items()
        ]
    return first + then


def differences(expected: Mapping[str, Object], actual: Mapping[str, Object]) -> list[str]:
    """List the objects that are missing, extra or different. Pure."""
    found = []
    for key in {**expected, **actual}:
        if key not in actual or key not in expected:
            found.append(f"{'missing' if key not in actual else 'extra'} {key}")
        elif not expected[key].like(actual[key]):
            found.append(f"changed {key}")
    return found
