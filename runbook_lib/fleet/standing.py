"""The state of one target of a fleet, by the journal of its run alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from runbook_lib.errors import cause
from runbook_lib.journal.event import Event
from runbook_lib.journal.state import RunState, replay

Word = Literal[
    "pending", "previewed", "held back", "begun", "verified", "waived", "failed", "unknown", "declined", "undone", "ended"
]
LOOKED = ("previewed", "stopped", "outcome")  # the last of these decides where nothing was begun
ACTED = ("started", "applied", "undone", "failed", "found", "checked")
ENDS = ("stopped", "outcome")  # what a process journals last
DONE: tuple[Word, ...] = ("verified", "waived")  # rolled back as far as was approved
FAILED: tuple[Word, ...] = ("failed", "unknown")
SETTLED: tuple[Word, ...] = (*DONE, "undone", "ended")  # nothing is left to do there


@dataclass(frozen=True)
class Standing:
    """The state of one target: a word, how far it came, and why it stopped."""

    target: str
    word: Word
    step: str = ""  # the title of the step that was begun last
    done: int = 0  # steps
    of: int = 0
    reason: str = ""
    digest: str = ""  # of its latest preview
    loses: tuple[str, ...] = ()  # what the latest preview says users lose, a line each
    rows: int = 0  # that the latest preview would change
    estimate: int = 0  # seconds, by the latest preview
    began: datetime | None = None  # the first step
    ended: datetime | None = None
    pending: int = 0  # items of cleanup
    touched: bool = False  # whether a step has an effect there
    waits_since: datetime | None = None  # that a lock is waited for, which `reason` names; None where none is
    stopped: bool = False  # whether, of a target that was begun, the process that acted there last journaled why it ended

    @property
    def has_failed(self) -> bool:
        """Whether it counts as a failure; a step that was begun and stopped counts, whoever stopped it."""
        return self.word in FAILED or self.stopped

    @property
    def seconds(self) -> float | None:
        """How long it took from the first step to the end; None before the end."""
        return (self.ended - self.began).total_seconds() if self.began and self.ended else None


def standing_of(target: str, events: Sequence[Event]) -> Standing:
    """Return the state of a target after these events of its run's journal. Pure."""
    state = replay(events)
    shown = [event for event in events if event.kind == "previewed"]
    latest = shown[-1].data["shown"] if shown else []
    began = next((event.time for event in events if event.kind == "started"), None)
    outcome = next((event for event in reversed(events) if event.kind == "outcome"), None)
    word, waits = _word(state, events), _waits(events)
    return Standing(
        target,
        word,
        step=next((each.title for each in reversed([*state.steps.values()])), ""),
        done=sum(each.is_done for each in state.steps.values()),
        of=len(state.previews[state.previewed]) if state.previewed else 0,
        reason=f"waits for {'; '.join(waits[-1].data['blockers']) or 'a lock'}" if waits else _reason(word, state, events),
        digest=state.previewed,
        loses=tuple(line for preview in latest for line in preview["loses"]),
        rows=max((int(preview["volumes"].get("rows", 0)) for preview in latest), default=0),
        estimate=sum(int(preview["estimate"]) for preview in latest),
        began=began,
        ended=outcome.time if outcome and state.outcome else None,
        pending=len(state.pending),
        touched=any(each.begun_here for each in state.steps.values()),
        waits_since=waits[0].time if waits else None,
        stopped=word == "begun"
        and next((event.kind in ENDS for event in reversed(events) if event.kind in (*ACTED, *ENDS)), False),
    )


def _word(state: RunState, events: Sequence[Event]) -> Word:
    if not state.steps:
        kinds = [event.kind for event in events if event.kind in LOOKED and not event.data.get("on_request")]
        return "held back" if kinds and kinds[-1] != "previewed" else "previewed" if kinds else "pending"
    if state.outcome is None:
        return "begun"
    status = str(state.outcome["status"])
    found: dict[str, Word] = {"service-back": "unknown", "escalated": "unknown"}
    return found.get(status, status)  # type: ignore[arg-type]  # the others are called as the outcome is


def _waits(events: Sequence[Event]) -> list[Event]:
    """Return the tries to get a lock since the last event of another kind, without those of requests."""
    found = list[Event]()
    for event in reversed(events):
        if event.kind == "waiting":
            found.insert(0, event)
        elif event.kind != "steered":
            break
    return found


def _reason(word: Word, state: RunState, events: Sequence[Event]) -> str:
    """Return the reason of the state, in a line."""
    if word == "previewed":
        return ""
    if word == "held back":
        stops = [event.data["error"] for event in events if event.kind == "stopped"]
        return cause(str(stops[-1])) if stops else str(state.outcome["summary"]) if state.outcome else ""
    if state.outcome:
        return str(state.outcome["summary"])
    failed = [each.error for each in state.steps.values() if each.error]
    return cause(failed[-1]) if failed else ""
