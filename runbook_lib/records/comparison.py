"""Two runs, as a rehearsal and an incident, step by step. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from runbook_lib.journal.event import clock
from runbook_lib.records.walk import Walk, WalkedStep

HEAD = ["step", "first", "second", "differs in"]
MISSING = "not in the {} run"


@dataclass(frozen=True)
class ComparedStep:
    """A step of two runs: its seconds in each, None where it did not act, and what else differs."""

    step: str
    title: str
    first: float | None
    second: float | None
    differs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs: the runs as a whole, and each step."""

    first: str
    second: str
    differs: list[str]
    steps: list[ComparedStep]

    def rows(self) -> list[list[str]]:
        """Return a row for each step, as `HEAD` names its cells."""
        return [[e.title, _seconds(e.first), _seconds(e.second), "\n".join(e.differs)] for e in self.steps]

    def as_json(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return asdict(self)


def compared(first: Walk, second: Walk) -> Comparison:
    """Compare two runs."""
    names = dict.fromkeys([*first.steps, *second.steps])
    steps = [_step(name, first.steps.get(name), second.steps.get(name)) for name in names]
    return Comparison(first.name, second.name, [*_whole(first, second)], steps)


def _whole(first: Walk, second: Walk) -> Iterator[str]:
    for name in ("feature", "target", "type", "option", "outcome", "outage"):
        yield from _differs(name.replace("outage", "services down"), getattr(first, name), getattr(second, name))
    yield from _differs("took", _seconds(first.seconds), _seconds(second.seconds))
    for what in ("checks", "waivers", "choices"):
        yield from _each(what.removesuffix("s"), getattr(first, what), getattr(second, what))


def _each(what: str, first: Mapping[str, object], second: Mapping[str, object]) -> Iterator[str]:
    for name in dict.fromkeys([*first, *second]):
        yield from _differs(f"{what} {name}", str(first.get(name, "")), str(second.get(name, "")))


def _differs(what: str, first: str, second: str) -> Iterator[str]:
    if first != second:
        yield f"{what}: {first or 'none'} → {second or 'none'}"


def _step(name: str, first: WalkedStep | None, second: WalkedStep | None) -> ComparedStep:
    there = first or second
    assert there is not None
    if first is None or second is None:
        differs = [MISSING.format("first" if first is None else "second")]
    else:
        differs = [
            *_differs("kind", first.kind, second.kind),
            *_differs("", first.status, second.status),
            *_each("", first.volumes, second.volumes),
        ]
    took, took_then = (each.seconds if each else None for each in (first, second))
    return ComparedStep(name, there.title, took, took_then, [line.removeprefix(": ").strip() for line in differs])


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else clock(seconds)
