"""The state of a run from its journal: a pure replay of events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, TypeVar

from runbook_lib.errors import JournalError
from runbook_lib.journal import event as events
from runbook_lib.journal.event import Event

K = TypeVar("K")
V = TypeVar("V")
ENDS_A_TRY = ("failed", "notebook-started", "cell-started", "undo-approved")  # of whoever came after a killed process
StepStatus = Literal["pending", "started", "done", "found done", "failed", "undone"]


@dataclass(frozen=True)
class StepState:
    """The recorded state of one step; "started" means that its outcome is unknown."""

    name: str
    title: str
    status: StepStatus = "pending"
    seconds: float | None = None
    outcome: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    begun_here: bool = False  # whether this run acted, and did not undo it since

    @property
    def is_done(self) -> bool:
        """Whether the step's effect was there when it was last looked at."""
        return self.status in ("done", "found done")


@dataclass(frozen=True)
class RunState:
    """All that the journal says of a run, by the latest word on each thing."""

    opened: Mapping[str, Any]
    opened_at: str
    type: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    previews: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # digest -> step -> facts and volumes
    approved: str = ""
    approved_by: str = ""
    steps: Mapping[str, StepState] = field(default_factory=dict)  # in the order they were begun
    actions: Mapping[str, str] = field(default_factory=dict)  # step -> what was begun on it last: "apply" or "undo"
    tries: Mapping[str, tuple[datetime, datetime | None]] = field(default_factory=dict)  # step -> begun last, what came next
    begun_since: tuple[str, ...] = ()  # the steps begun or found since the latest escalation, in order
    checks: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)  # round -> name -> result
    left_out: Mapping[str, str] = field(default_factory=dict)  # a check of the final list that does not apply here -> why
    waivers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    overrides: tuple[Mapping[str, str], ...] = ()  # of what triage recommended
    takeovers: tuple[Mapping[str, Any], ...] = ()  # of the target, from other runs
    adopted: tuple[Mapping[str, str], ...] = ()  # moves of checkouts that those runs began and did not end
    handovers: tuple[Mapping[str, str], ...] = ()  # from one engineer to another
    evidence: tuple[Mapping[str, str], ...] = ()
    escalations: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    by_hand: tuple[Mapping[str, str], ...] = ()  # what people did from the sheet, in order; it changes the state of no step
    pending: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # name -> step and text, while it is open
    served: bool = False  # whether a recovery path led to running services, and no step was begun since
    undo: str = ""  # the digest of an approved undo that has not ended
    undo_is_whole: bool = False  # whether the undo approved last is of the whole run
    undo_ended: str = ""  # the digest of the undo that ended last, and no step done since
    purge: Mapping[str, Any] = field(default_factory=dict)  # the digest approved last for a purge, and the cleanup it covers
    is_undone: bool = False  # whether the whole run was undone, and no step begun since
    failing: Mapping[tuple[str, str], str] = field(default_factory=dict)  # action, step -> why it failed or was refused last
    ended: Mapping[str, str] = field(default_factory=dict)  # who ended the run for good, and why
    outcome: Mapping[str, Any] | None = None  # None again once a step is begun

    @property
    def option(self) -> str:
        """What happens to the data, as chosen last."""
        return self.choices.get("OPTION") or str(self.opened["option"])

    @property
    def operator(self) -> str:
        """Who carries the run on now."""
        return self.handovers[-1]["to"] if self.handovers else str(self.opened["operator"])

    @property
    def said_done(self) -> list[str]:
        """The steps that were done by hand, by the latest word of a person on each."""
        latest = {each["step"]: each["result"] for each in self.by_hand}
        return [name for name, result in latest.items() if result == "done"]

    @property
    def previewed(self) -> str:
        """The digest of the latest preview, "" before the first."""
        return next(reversed([*self.previews]), "")

    @property
    def author(self) -> str:
        """Whose name the commits bear, whoever carries the run on: they are approved by their ids."""
        return str(self.opened.get("operator") or "runbook")

    @property
    def began(self) -> datetime:
        """When the run was opened."""
        return datetime.fromisoformat(self.opened_at)

    @property
    def agreed(self) -> Mapping[str, Mapping[str, Any]]:
        """What was approved last: step -> its "facts", "volumes" and "keys"."""
        return self.previews.get(self.approved, {})

    def approved_facts(self, step: str) -> Mapping[str, Any]:
        """Return the facts of a step that were approved last, none where it was not."""
        facts: Mapping[str, Any] = self.agreed.get(step, {}).get("facts", {})
        return facts

    def due(self, checks: Iterable[str]) -> list[str]:
        """Those of a final list of checks that apply here."""
        return [name for name in checks if name not in self.left_out]

    def step(self, name: str) -> StepState:
        """Return the state of a step, "pending" where nothing is on record."""
        return self.steps.get(name, StepState(name, name))


def replay(history: Iterable[Event], since: RunState | None = None) -> RunState:
    """Return the state that some events lead to; what is no fact of a known kind changes nothing. Pure.

    Args:
        history: The events of a run, or those that came after a state.
        since: That state.

    Raises:
        JournalError: The first event does not open a run.
    """
    state = since
    for event in history:
        if state is not None:
            state = _after(state, event)
        elif isinstance(event.fact, events.Opened):
            state = RunState(opened=event.data, opened_at=event.at, type=event.fact.type)
        else:
            break
    if state is None:
        raise JournalError(
            "The journal does not begin with the opening of a run.",
            state="What the run did cannot be taken from this journal.",
            safe_next="Keep the folder for the reviewer and begin a new run.",
        )
    return state


def _after(state: RunState, event: Event) -> RunState:
    """Return the state after one more event."""
    data = event.data
    if event.kind in ENDS_A_TRY:
        state = replace(state, tries={name: (begun, after or event.time) for name, (begun, after) in state.tries.items()})
    match event.fact:
        case None | events.Progress():  # most events are of these
            return state
        case events.Chosen(name, value):
            choices = {**state.choices, name: value}
            return replace(state, choices=choices, type=value if name == "TYPE" else state.type)
        case events.Previewed(digest, steps):  # the latest is last
            return replace(state, previews={**_without(state.previews, digest), digest: steps})
        case events.Approved(digest, by):
            return replace(state, approved=digest, approved_by=by)
        case events.Started() | events.Found() | events.Applied() | events.Failed() as fact:
            return _after_step(state, fact, event.time)
        case events.Refused(step, action, error):
            return replace(state, failing={**state.failing, (action, step): error})
        case events.Checked(round_name, name):
            checks = {**state.checks, round_name: {**state.checks.get(round_name, {}), name: data}}
            left_out = _without(state.left_out, name) if round_name == "after" else state.left_out
            return replace(state, checks=checks, left_out=left_out)
        case events.LeftOut(name, reason):
            checks = dict(state.checks)
            if "after" in checks:
                checks["after"] = _without(checks["after"], name)
            return replace(state, checks=checks, left_out={**state.left_out, name: reason})
        case events.Waived(name):
            return replace(state, waivers={**state.waivers, name: data})
        case events.Overridden():
            return replace(state, overrides=(*state.overrides, data))
        case events.TakenOver():
            return replace(state, takeovers=(*state.takeovers, data))
        case events.Adopted(moves=moves):
            return replace(state, adopted=(*state.adopted, *moves))
        case events.HandedOver():
            return replace(state, handovers=(*state.handovers, data))
        case events.EvidenceKept(file=file):
            return replace(state, evidence=(*(e for e in state.evidence if e["file"] != file), data))
        case events.Escalated(to=to):
            return replace(state, escalations=(*state.escalations, data), type=to, begun_since=())
        case events.Served():
            return replace(state, served=True)
        case events.CleanupOpened(item):
            return replace(state, pending={**state.pending, item: data})
        case events.CleanupClosed(item):
            return replace(state, pending=_without(state.pending, item))
        case events.Noted(text):
            return replace(state, notes=(*state.notes, text))
        case events.DoneByHand():
            # Checks made before it say nothing of what is there now.
            checks = _without(state.checks, "after")
            by_hand = (*state.by_hand, data)
            return replace(state, by_hand=by_hand, checks=checks, left_out={}, served=False, outcome=None)
        case events.UndoApproved(digest, whole=whole):
            return replace(state, undo=digest, undo_is_whole=whole)
        case events.PurgeApproved():
            return replace(state, purge=data)
        case events.Ended():
            return replace(state, ended=data)
        case events.OutcomeFound():
            return replace(state, outcome=data, undo_ended=state.undo or state.undo_ended, undo="")
    return state


def _after_step(
    state: RunState, fact: events.Started | events.Found | events.Applied | events.Failed, time: datetime
) -> RunState:
    """Return the state after a step was begun or found, or has ended."""
    name, known = fact.step, state.step(fact.step)
    since = state.begun_since if name in state.begun_since else (*state.begun_since, name)
    match fact:
        case events.Started(title=title, action=action):
            steps = (
                _without(state.steps, name) if known.status == "undone" else state.steps
            )  # its place is the present try's
            begun = StepState(name, title, "started", outcome=known.outcome, begun_here=True)
            return replace(
                state,
                steps={**steps, name: begun},
                actions={**state.actions, name: action},
                tries={**state.tries, name: (time, None)},
                begun_since=since,
                checks=_without(state.checks, "after"),  # a checklist made before a change says nothing of what is now
                left_out={},
                served=False,
                outcome=None,
                is_undone=False,
            )
        case events.Found(title=title, outcome=outcome):
            left = {**known.outcome, **outcome} if known.begun_here else outcome
            found = StepState(name, title, "found done", outcome=left, begun_here=known.begun_here)
            failing = _without(state.failing, ("apply", name))
            return replace(state, steps={**state.steps, name: found}, begun_since=since, failing=failing)
        case events.Applied(seconds=seconds, outcome=outcome):
            undone = isinstance(fact, events.Undone)
            status: StepStatus = "undone" if undone else "done"
            ended = replace(known, status=status, begun_here=not undone, seconds=seconds, outcome=outcome, error="")
            steps = {**state.steps, name: ended}
            return replace(
                state,
                steps=steps,
                failing=_without(state.failing, ("undo" if undone else "apply", name)),
                is_undone=undone and state.undo_is_whole and not any(step.begun_here for step in steps.values()),
                undo=state.undo if undone else "",
                undo_ended=state.undo_ended if undone else "",
            )
        case events.Failed(error=error, on_request=on_request):
            failing = {**state.failing} if on_request else {**state.failing, (state.actions.get(name, "apply"), name): error}
            failed = replace(known, status="failed", error=error)
            return replace(state, steps={**state.steps, name: failed}, failing=failing)


def _without(those: Mapping[K, V], key: K) -> dict[K, V]:
    return {each: value for each, value in those.items() if each != key}
