"""The events of a fleet's own journal; each target's run has a journal of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook_lib.journal.event import Fact


@dataclass(frozen=True)
class FleetOpened(Fact, kind="fleet-opened", timeline="{fleet}: {plan} on {count} targets, type {type}, by {operator}"):
    """A fleet's run was begun: its targets in order, each with its run's folder below this one, its server and labels."""

    fleet: str
    file: str
    plan: str
    type: str
    option: str
    count: int
    production: bool
    operator: str
    reason: str
    incident: str
    targets: Mapping[str, Mapping[str, Any]]
    waves: Sequence[Sequence[str]]
    clock: Mapping[str, Any]
    canaries: Sequence[str] = ()


@dataclass(frozen=True)
class FleetChosen(Fact, kind="fleet-chosen", timeline="{name} = {value} ({by})", milestone="{name} = {value} ({by})"):
    """A person chose to be more careful than the fleet file: WAVES, AT_ONCE or MAX_FAILURES."""

    name: str
    value: str
    by: str


@dataclass(frozen=True)
class FleetPreviewed(
    Fact, kind="fleet-previewed", timeline="{digest}: {ready} targets ready, {held} held back", milestone="preview {digest}"
):
    """The previews of all targets were taken: the digest of each that is ready, and why each other is held back."""

    digest: str
    ready: int
    held: int
    digests: Mapping[str, str]
    held_back: Mapping[str, str]


@dataclass(frozen=True)
class FleetApproved(Fact, kind="fleet-approved", timeline="{digest}, by {by}", milestone="APPROVED {digest} by {by}"):
    """Somebody approved what the previews showed, of the targets that were ready."""

    digest: str
    by: str


@dataclass(frozen=True)
class FleetWaived(Fact, kind="fleet-waived", timeline="{name}: {reason} ({by})", milestone="{name} waived by {by}"):
    """Somebody waived a rule of the fleet, as that a canary is rolled back first."""

    name: str
    reason: str
    by: str


@dataclass(frozen=True)
class WaveStarted(Fact, kind="wave-started", timeline="wave {number}: {count} targets", milestone="wave {number}"):
    """A wave begins."""

    number: int
    count: int


@dataclass(frozen=True)
class WaveEnded(Fact, kind="wave-ended", timeline="wave {number}: {failed} of {count} targets failed in {seconds} s"):
    """A wave has ended."""

    number: int
    count: int
    failed: int
    seconds: float


@dataclass(frozen=True)
class Soaked(Fact, kind="soaked", timeline="after wave {number}: {seconds} s, failed: {failed}"):
    """The wait after a wave has ended, and the targets whose checks did not pass then, with what was seen."""

    number: int
    seconds: float
    failed: Mapping[str, str]


@dataclass(frozen=True)
class Requested(Fact, kind="fleet-requested", timeline="{request}, by {by}", milestone="{request} requested by {by}"):
    """Somebody asked the fleet to pause, resume or abort."""

    request: str
    by: str


@dataclass(frozen=True)
class Walking(Fact, kind="fleet-walking", timeline="{action} with {engine}, process {pid}"):
    """A process begins to bring the targets on; `action` is preview, apply or undo."""

    action: str
    engine: str
    pid: int


@dataclass(frozen=True)
class Interrupted(Fact, kind="fleet-interrupted", timeline="{signal}: no other target begins; waits for {targets}"):
    """A signal asked the process that walks to end; it waits for the targets under way, and asks their steps to end."""

    signal: str
    targets: Sequence[str]


@dataclass(frozen=True)
class Lost(Fact, kind="fleet-lost", timeline="{target}: {why}", milestone="{target}: its worker was lost"):
    """Whoever acted on a target ended without a word; its journal and a probe decide what is next."""

    target: str
    why: str


@dataclass(frozen=True)
class Held(Fact, kind="fleet-waiting", timeline="{target}: {why}"):
    """Another process acts on a target, as one that an earlier command left; the walk waits until it ends."""

    target: str
    why: str


@dataclass(frozen=True)
class WorkerRefused(Fact, kind="fleet-worker-refused", timeline="{worker} {why}", milestone="refused: {worker} {why}"):
    """A worker joined that cannot act for this fleet: it is given nothing to do, and the others continue."""

    worker: str
    why: str


@dataclass(frozen=True)
class UndoApproved(Fact, kind="fleet-undo-approved", timeline="{digest}, by {by}: {count} targets"):
    """Somebody approved the undo of targets: the digest of each."""

    digest: str
    by: str
    count: int
    digests: Mapping[str, str]


@dataclass(frozen=True)
class FleetOutcome(Fact, kind="fleet-outcome", timeline="{status}: {summary}", milestone="{status}: {summary}"):
    """What the targets add up to."""

    status: str
    summary: str
    exit_code: int
