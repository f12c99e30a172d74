"""The kinds of event that are journaled: the facts of each, its line in the timeline, and whether it is a milestone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar

KINDS: dict[str, type[Fact]] = {}


@dataclass(frozen=True)
class Event:
    """One thing that happened: its place in the chain, when (UTC, ISO 8601), what kind, and the facts."""

    seq: int
    at: str
    kind: str
    data: dict[str, Any]
    previous: str
    hash: str

    @property
    def time(self) -> datetime:
        """When it happened."""
        return datetime.fromisoformat(self.at)

    @cached_property
    def fact(self) -> Fact | None:
        """The facts as their kind declares them; None for a kind that is not known, or where usual facts lack."""
        return read(self.kind, self.data)

    @property
    def text(self) -> str:
        """What happened, in one line; the raw event if it lacks the facts of a known kind. Read-only."""
        try:
            text = self.fact.timeline() if self.fact else ""
        except (KeyError, TypeError, ValueError, AttributeError):
            text = ""
        return " ".join((text or json.dumps(self.data, ensure_ascii=False, default=str)).split()).rstrip("; ")


@dataclass(frozen=True)
class Fact:
    """The facts of one kind of event. A name that Python keeps for itself has `_` behind it."""

    TIMELINE: ClassVar[str] = ""
    MILESTONE: ClassVar[str] = ""

    def __init_subclass__(cls, kind: str, timeline: str = "", milestone: str = "") -> None:
        cls.TIMELINE, cls.MILESTONE = timeline, milestone
        KINDS[kind] = cls

    def timeline(self) -> str:
        """Return what happened, in one line."""
        return self.TIMELINE.format_map(vars(self))

    def milestone(self) -> str:
        """Return the line that reports a run in progress, "" where this is no milestone."""
        return self.MILESTONE.format_map(vars(self))


def read(kind: str, data: Mapping[str, Any]) -> Fact | None:
    """Return the facts as their kind declares them, without others; None for an unknown kind, or where one lacks. Pure."""
    if kind not in KINDS:
        return None
    known = fields(KINDS[kind])
    if any(_key(each.name) not in data for each in known if each.default is each.default_factory is MISSING):
        return None
    return KINDS[kind](**{each.name: data[_key(each.name)] for each in known if _key(each.name) in data})


def require_declared(kind: str, data: Mapping[str, Any]) -> None:
    """See that such an event is declared, with exactly these facts.

    Raises:
        TypeError: It is not.
    """
    known = {_key(each.name) for each in fields(KINDS[kind])} if kind in KINDS else set[str]()
    if read(kind, data) is None or not data.keys() <= known:
        raise TypeError(f"No event {kind!r} with the facts {', '.join(data)} is declared in {__name__}.")


def _key(name: str) -> str:
    return name.removesuffix("_")


# --- the run


@dataclass(frozen=True)
class Opened(Fact, kind="opened", timeline="{plan} on {target} ({environment}), type {type}, by {operator}"):
    """A run was begun; without a type where it begins with the triage."""

    type: str
    option: str
    version: int = 1
    plan: str = ""
    plan_file: str = ""
    plan_sha256: str = ""
    target: str = ""
    target_file: str = ""
    environment: str = ""
    operator: str = ""
    reason: str = ""
    incident: str = ""
    clock: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClockChanged(Fact, kind="clock-changed"):
    """The clock was set since the event before, by so many seconds; None where the machine is another."""

    clock: Mapping[str, Any]
    seconds: float | None

    def timeline(self) -> str:
        """Return what happened, in one line."""
        if self.seconds is None:
            return "the run continues on another clock"
        return f"the clock was set {'back' if self.seconds < 0 else 'forward'} by {clock(abs(self.seconds))}"


@dataclass(frozen=True)
class HandedOver(Fact, kind="handed-over", timeline="from {from_} to {to}"):
    """Another engineer carries the run on."""

    from_: str
    to: str


@dataclass(frozen=True)
class TakenUp(
    Fact, kind="taken-up", timeline="by {by} on {host}, with {files} files", milestone="TAKEN UP by {by} on {host}"
):
    """The run's folder was made again on another machine, without the files that are missing."""

    by: str
    host: str
    files: int
    missing: Sequence[str]


@dataclass(frozen=True)
class Noted(Fact, kind="noted", timeline="{text}"):
    """A remark."""

    text: str


@dataclass(frozen=True)
class OutcomeFound(Fact, kind="outcome", timeline="{status} (exit code {exit_code}): {summary}"):
    """What the run adds up to."""

    status: str
    summary: str = ""
    exit_code: int | None = None

    def milestone(self) -> str:
        """Return the line that reports a run in progress."""
        return f"{self.status.upper()}: {self.summary}"


@dataclass(frozen=True)
class Ended(Fact, kind="ended", timeline="by {by}: {reason}", milestone="ENDED by {by}: {reason}"):
    """Somebody ended the run for good."""

    reason: str
    by: str


@dataclass(frozen=True)
class Sealed(Fact, kind="sealed", timeline="{run}"):
    """The archive was written; the hash of each file."""

    run: str
    at: str
    files: Mapping[str, Any]


# --- notebooks and cells


@dataclass(frozen=True)
class NotebooksPrepared(Fact, kind="notebooks-prepared", timeline="{directory}: {notebooks}"):
    """Copies of the notebooks were made for this run."""

    directory: str
    notebooks: Sequence[str]


@dataclass(frozen=True)
class NotebookStarted(Fact, kind="notebook-started", timeline="{notebook}", milestone="notebook {notebook}"):
    """A notebook begins without a person."""

    notebook: str
    output: str


@dataclass(frozen=True)
class NotebookEnded(Fact, kind="notebook-ended", timeline="{notebook}: {status}"):
    """A notebook has ended."""

    notebook: str
    output: str
    status: str


@dataclass(frozen=True)
class NotebookRendered(Fact, kind="notebook-rendered", timeline="{notebook}, from the journal"):
    """The run's notebook was rendered from this journal; no kernel executed it."""

    notebook: str
    output: str


@dataclass(frozen=True)
class CellStarted(Fact, kind="cell-started", timeline="{source}"):
    """A person executes a cell."""

    source: str


@dataclass(frozen=True)
class CellEnded(Fact, kind="cell-ended", timeline="{outcome} in {seconds} s, outputs {outputs}"):
    """That cell has ended, with the hash of what it showed."""

    outcome: str
    seconds: float
    outputs: str


@dataclass(frozen=True)
class Stopped(Fact, kind="stopped", timeline="{cell}: {error}"):
    """An error ended what a cell called; `on_request` where a person ended it."""

    cell: str
    exit_code: int
    error: str
    on_request: bool = False


@dataclass(frozen=True)
class Asked(Fact, kind="asked", timeline="{question}"):
    """A person is asked something."""

    question: str


@dataclass(frozen=True)
class Answered(Fact, kind="answered", timeline="{question}"):
    """It was answered."""

    question: str


# --- triage


@dataclass(frozen=True)
class Symptom(Fact, kind="symptom", timeline="{symptom}: {value}, by {by}; {probes} by the probes"):
    """What a person saw, and what the probes say of it."""

    symptom: str
    value: Any
    probes: Any
    by: str


@dataclass(frozen=True)
class Recommended(Fact, kind="recommended", timeline="{type}: {reason}"):
    """What triage, or a watch, recommends; "" for nothing."""

    type: str
    reason: str
    symptom: str = ""

    def milestone(self) -> str:
        """Return the line that reports a run in progress."""
        return f"triage recommends {self.type or 'nothing'}: {self.reason}"


@dataclass(frozen=True)
class Overridden(Fact, kind="overridden", timeline="{chosen} instead of {recommended}, by {by}: {reason}"):
    """Another type was chosen than was recommended."""

    recommended: str
    chosen: str
    reason: str
    by: str

    def milestone(self) -> str:
        """Return the line that reports a run in progress."""
        return f"OVERRIDDEN: {self.chosen} instead of {self.recommended or 'nothing'}: {self.reason}"


@dataclass(frozen=True)
class Diagnosed(Fact, kind="diagnosed", timeline="{text}", milestone="trouble found: {text}"):
    """The known troubles that are there."""

    troubles: Sequence[str]
    text: str


# --- what is looked at, chosen and approved


@dataclass(frozen=True)
class Chosen(Fact, kind="chosen", timeline="{name} = {value} ({by})", milestone="{name} = {value} ({by})"):
    """A choice: TYPE, OPTION, or one of the steps'."""

    name: str
    value: str
    by: str


@dataclass(frozen=True)
class Checked(Fact, kind="checked", timeline="{status}: {title}. {summary} [{round}]"):
    """What a check found, in a round of checks."""

    round: str
    name: str
    status: str
    title: str = ""
    summary: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut(Fact, kind="left-out", timeline="{name}: {reason}", milestone="LEFT OUT {name}: {reason}"):
    """A check of the final list does not apply here."""

    name: str
    reason: str


@dataclass(frozen=True)
class Waived(Fact, kind="waived", timeline="{name}, by {by}: {reason}", milestone="WAIVED {name}: {reason}"):
    """A check or a step may fail."""

    name: str
    reason: str
    by: str


@dataclass(frozen=True)
class EvidenceKept(Fact, kind="evidence", timeline="{title} ({file})"):
    """A file of the run folder that shows something: a "table", an "image" or a "text"."""

    title: str
    file: str
    kind: str


@dataclass(frozen=True)
class Previewed(Fact, kind="previewed"):
    """The steps were previewed: what an approval binds of each, what was shown of it, and how psql reaches the database."""

    digest: str
    steps: Mapping[str, Mapping[str, Any]]
    shown: Sequence[Mapping[str, Any]] = ()
    psql: str = ""

    def timeline(self) -> str:
        """Return what happened, in one line."""
        return f"{self.digest}: {', '.join(self.steps)}"

    def milestone(self) -> str:
        """Return the line that reports a run in progress."""
        return f"previewed {len(self.steps)} steps: {self.digest}"


@dataclass(frozen=True)
class Approved(Fact, kind="approved", timeline="{digest} by {by}", milestone="approved {digest} by {by}"):
    """The steps may be executed as previewed."""

    digest: str
    by: str


@dataclass(frozen=True)
class RehearsalOf(Fact, kind="rehearsal-of"):
    """What a rehearsal is of, before its first step."""

    subject: Mapping[str, Any]

    def timeline(self) -> str:
        """Return what happened, in one line."""
        return in_words(self.subject)


@dataclass(frozen=True)
class Escalated(
    Fact, kind="escalated", timeline="from {from_} to {to}: {because}", milestone="escalated from {from_} to {to}: {because}"
):
    """The run continues as another type."""

    from_: str
    to: str
    because: str


# --- steps


@dataclass(frozen=True)
class Started(Fact, kind="started", timeline="{title}"):
    """A step acts from now on; its outcome is unknown until another event says it."""

    step: str
    title: str
    action: str = "apply"


@dataclass(frozen=True)
class Found(Fact, kind="found"):
    """A step's effect was there already."""

    step: str
    title: str
    outcome: Mapping[str, Any]

    def timeline(self) -> str:
        """Return what happened, in one line."""
        return f"{self.title}: already done; {in_words(self.outcome)}"


@dataclass(frozen=True)
class Applied(Fact, kind="applied"):
    """A step was applied, and what it left."""

    step: str
    seconds: float
    outcome: Mapping[str, Any]

    def timeline(self) -> str:
        """Return what happened, in one line."""
        return f"{self.step} in {clock(self.seconds)}; {in_words(self.outcome)}"


@dataclass(frozen=True)
class Undone(Applied, kind="undone"):
    """A step was undone, and what that left."""


@dataclass(frozen=True)
class Failed(Fact, kind="failed", timeline="{step}: {error}"):
    """A step did not end as it should; `on_request` where a person ended it."""

    step: str
    error: str
    on_request: bool = False


@dataclass(frozen=True)
class Refused(Fact, kind="refused", timeline="{action} {step}: {error}"):
    """A step was not begun."""

    step: str
    action: str
    error: str


@dataclass(frozen=True)
class ChosenAfterFailure(Fact, kind="chosen-after-failure", timeline="{step}: {value} ({by})"):
    """What a person chose once a step had failed."""

    step: str
    value: str
    by: str


@dataclass(frozen=True)
class Progress(Fact, kind="progress", timeline="{step}: {done} of {total} {unit}; {text}"):
    """How far a step has come; a total of 0 is not known."""

    step: str
    done: int
    total: int
    text: str
    unit: str = "rows"


@dataclass(frozen=True)
class Waiting(Fact, kind="waiting", timeline="{step}: {blockers}"):
    """Who is in the way of a step's locks."""

    step: str
    blockers: Sequence[str]


@dataclass(frozen=True)
class ControlRequested(Fact, kind="steered", timeline="{step}: {wanted}, by {by}"):
    """A person paused, resumed or aborted a step."""

    step: str
    wanted: str
    by: str


@dataclass(frozen=True)
class Output(Fact, kind="output", timeline="{step}: {line}", milestone="  | {line}"):
    """A line that a step's command wrote."""

    step: str
    line: str


@dataclass(frozen=True)
class SessionsEnded(Fact, kind="sessions-ended", timeline="{step}: {sessions}"):
    """Sessions in the target's database that a step ended."""

    step: str
    sessions: Sequence[str]


@dataclass(frozen=True)
class PoolersResumed(Fact, kind="poolers-resumed", timeline="{step}: clients of {poolers} waited {seconds} s"):
    """A step resumed the clients of poolers; `others` names the poolers that somebody else had already resumed."""

    step: str
    poolers: str
    seconds: float
    others: Sequence[str]


@dataclass(frozen=True)
class IndexScans(Fact, kind="index-scans", timeline="{step}: {scans}"):
    """How often indexes had been used by then."""

    step: str
    at: Any
    scans: Any


@dataclass(frozen=True)
class DoneByHand(Fact, kind="by-hand"):
    """What a person did in place of a step, from the sheet: `result` is "done" or "failed"; what is there, looks decide."""

    step: str
    title: str
    result: str
    note: str
    by: str
    when: str

    def timeline(self) -> str:
        """Return what happened, in one line."""
        return f"{self.title}: {self.result} by hand, by {self.by}, at {self.when}: {self.note}"

    def milestone(self) -> str:
        """Return the line that reports a run in progress."""
        return f"BY HAND, by {self.by}: {self.title}: {self.result}"


# --- pending cleanup


@dataclass(frozen=True)
class CleanupOpened(Fact, kind="owed", timeline="{debt}: {text}"):
    """Cleanup is pending; `of` and `its` name the run that left it, and what that run calls it."""

    debt: str
    step: str
    text: str
    of: str = ""
    its: str = ""


@dataclass(frozen=True)
class CleanupClosed(Fact, kind="paid", timeline="{debt}"):
    """That cleanup is done."""

    debt: str
    step: str


@dataclass(frozen=True)
class PurgeApproved(Fact, kind="purge-approved", timeline="{digest}: {debts} by {by}"):
    """Cleanup was approved."""

    digest: str
    debts: Sequence[str]
    by: str


@dataclass(frozen=True)
class Purged(Fact, kind="purged"):
    """Cleanup was executed, with its result."""

    debt: str
    outcome: Mapping[str, Any]

    def timeline(self) -> str:
        """Return what happened, in one line."""
        return f"{self.debt}; {in_words(self.outcome)}"


# --- the target


@dataclass(frozen=True)
class TakenOver(
    Fact, kind="taken-over", timeline="from {before}, by {by}: {reason}", milestone="TAKEN OVER from {before}: {reason}"
):
    """The target was taken from a run that was left behind; older versions named neither run nor folder."""

    reason: str
    by: str
    before: str
    run: str = ""
    folder: str = ""
    epoch: int = 0


@dataclass(frozen=True)
class Adopted(Fact, kind="adopted", timeline="from run {run}: {debts}"):
    """The pending cleanup of that run is this run's; the moves of checkouts that it began and did not end."""

    run: str
    debts: Sequence[str]
    moves: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Released(Fact, kind="released", timeline="{database}"):
    """The target was given back."""

    database: str


# --- recovery and undo


@dataclass(frozen=True)
class UndoApproved(Fact, kind="undo-approved", timeline="{digest}: {steps} by {by}"):
    """The undo of the whole run, or of one step, was approved."""

    digest: str
    steps: Sequence[str]
    whole: bool
    by: str

    def milestone(self) -> str:
        """Return the line that reports a run in progress."""
        return f"undo {self.digest} approved by {self.by}: {', '.join(self.steps)}"


@dataclass(frozen=True)
class ServiceBack(Fact, kind="service-back"):
    """The way to services that run was approved: each move is an action and a step."""

    digest: str
    moves: Sequence[Sequence[str]]
    by: str = ""

    def timeline(self) -> str:
        """Return what happened, in one line."""
        return f"{self.digest}: {', '.join(' '.join(move) for move in self.moves)}"

    def milestone(self) -> str:
        """Return the line that reports a run in progress."""
        return "service back: " + ", ".join(" ".join(move) for move in self.moves)


@dataclass(frozen=True)
class Served(Fact, kind="served"):
    """All services run in a combination that the plan allows."""

    services: Sequence[str]

    def timeline(self) -> str:
        """Return what happened, in one line."""
        return f"{', '.join(self.services)} run in a combination that the plan allows"


# --- words

NOT_KNOWN = "not known: the clock was set back"


def clock(seconds: float | None) -> str:
    """Return a duration for reading: "0.4 s", "42 s", "3 min 05 s", "1 h 02 min"; None is not known. Read-only."""
    if seconds is None:
        return NOT_KNOWN
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if rest == 0 and minutes < 60:
        return f"{minutes} min"
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def in_words(values: Mapping[str, Any]) -> str:
    """Facts in one line, without nested ones, which only later steps read: "rows cleared: 12, exact: yes". Read-only."""
    return ", ".join(f"{name.replace('_', ' ')}: {_value(value)}" for name, value in values.items() if not _is_nested(value))


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(inner, Mapping) for inner in value.values())


def _value(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(_value(item) for item in value) or "nothing"
        case dict():
            return f"({', '.join(f'{name}: {_value(item)}' for name, item in value.items())})"
        case _:
            return str(value)
