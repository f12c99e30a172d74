"""The state of a run as its journal tells it: a pure replay of events."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from runbook_lib.errors import JournalError
from runbook_lib.journal import Event

StepStatus = Literal["pending", "started", "done", "found done", "failed", "undone"]


@dataclass
class StepState:
    """What is on record of one step; "started" means that its outcome is unknown."""

    name: str
    title: str
    status: StepStatus = "pending"
    seconds: float | None = None
    outcome: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    begun_here: bool = False  # whether this run acted, and did not undo it since

    @property
    def is_done(self) -> bool:
        """Whether the step's effect was there when it was last looked at."""
        return self.status in ("done", "found done")


@dataclass
class RunState:
    """All that the journal says of a run, by the latest word on each thing."""

    opened: dict[str, Any]
    opened_at: str
    type: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    previews: dict[str, dict[str, Any]] = field(default_factory=dict)  # digest -> step -> facts and volumes
    approved: str = ""
    approved_by: str = ""
    steps: dict[str, StepState] = field(default_factory=dict)  # in the order they were begun
    begun_since: list[str] = field(default_factory=list)  # the steps begun or found since the latest escalation, in order
    checks: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)  # round -> name -> result
    left_out: dict[str, str] = field(default_factory=dict)  # a check of the final list that does not apply here -> why
    waivers: dict[str, dict[str, str]] = field(default_factory=dict)
    overrides: list[dict[str, str]] = field(default_factory=list)  # of what triage recommended
    takeovers: list[dict[str, Any]] = field(default_factory=list)  # of the target, from other runs
    handovers: list[dict[str, str]] = field(default_factory=list)  # from one engineer to another
    evidence: list[dict[str, str]] = field(default_factory=list)
    escalations: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    debts: dict[str, dict[str, str]] = field(default_factory=dict)  # name -> step and text, while it is open
    served: bool = False  # whether a way back was walked to services that run, and no step begun since
    outcome: dict[str, Any] | None = None  # None again once a step is begun

    @property
    def option(self) -> str:
        """What happens to the data, as chosen last."""
        return self.choices.get("OPTION") or str(self.opened["option"])

    @property
    def operator(self) -> str:
        """Who carries the run on now."""
        return self.handovers[-1]["to"] if self.handovers else str(self.opened["operator"])

    def due(self, checks: Iterable[str]) -> list[str]:
        """Those of a final list of checks that apply here."""
        return [name for name in checks if name not in self.left_out]

    def step(self, name: str) -> StepState:
        """The state of a step, "pending" where nothing is on record."""
        return self.steps.get(name, StepState(name, name))


def replay(events: Iterable[Event]) -> RunState:
    """The state that `events` lead to. Read-only.

    Raises:
        JournalError: The first event does not open a run.
    """
    state: RunState | None = None
    for event in events:
        data = event.data
        if state is not None and event.kind in ("started", "found") and data["step"] not in state.begun_since:
            state.begun_since.append(data["step"])
        if state is None:
            if event.kind != "opened":
                break
            state = RunState(opened=data, opened_at=event.at, type=data["type"])
            continue
        match event.kind:
            case "chosen":
                state.choices[data["name"]] = data["value"]
                if data["name"] == "TYPE":
                    state.type = data["value"]
            case "previewed":
                state.previews.pop(data["digest"], None)
                state.previews[data["digest"]] = data["steps"]  # the latest stands last
            case "approved":
                state.approved, state.approved_by = data["digest"], data["by"]
            case "started":
                left = state.step(data["step"]).outcome
                state.steps[data["step"]] = StepState(data["step"], data["title"], "started", outcome=left, begun_here=True)
                state.checks.pop("after", None)  # a checklist made before a change says nothing of what is now
                state.left_out.clear()
                state.served, state.outcome = False, None
            case "found":
                known = state.step(data["step"])
                left = {**known.outcome, **data["outcome"]} if known.begun_here else data["outcome"]
                state.steps[data["step"]] = StepState(
                    data["step"], data["title"], "found done", outcome=left, begun_here=known.begun_here
                )
            case "applied" | "undone":
                step = state.steps[data["step"]]
                step.status = "done" if event.kind == "applied" else "undone"
                step.begun_here = event.kind == "applied"
                step.seconds, step.outcome, step.error = data["seconds"], data["outcome"], ""
            case "failed":
                step = state.steps[data["step"]]
                step.status, step.error = "failed", data["error"]
            case "checked":
                state.checks.setdefault(data["round"], {})[data["name"]] = data
                if data["round"] == "after":
                    state.left_out.pop(data["name"], None)
            case "left-out":
                state.left_out[data["name"]] = data["reason"]
                state.checks.get("after", {}).pop(data["name"], None)
            case "waived":
                state.waivers[data["name"]] = data
            case "overridden":
                state.overrides.append(data)
            case "taken-over":
                state.takeovers.append(data)
            case "handed-over":
                state.handovers.append(data)
            case "evidence":
                state.evidence = [e for e in state.evidence if e["file"] != data["file"]] + [data]
            case "escalated":
                state.escalations.append(data)
                state.type = data["to"]
                state.begun_since.clear()
            case "served":
                state.served = True
            case "owed":
                state.debts[data["debt"]] = data
            case "paid":
                state.debts.pop(data["debt"], None)
            case "noted":
                state.notes.append(data["text"])
            case "outcome":
                state.outcome = data
    if state is None:
        raise JournalError(
            "The journal does not begin with the opening of a run.",
            state="What the run did cannot be taken from this journal.",
            safe_next="Keep the folder for the reviewer and begin a new run.",
        )
    return state
