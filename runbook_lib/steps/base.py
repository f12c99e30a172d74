"""What every step can do: be previewed, probed, applied, verified and undone."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from runbook_lib.context import Context
from runbook_lib.errors import ParametersError
from runbook_lib.plan import StepSpec
from runbook_lib.results import Result
from runbook_lib.steps.steered import Steered

Facts = Mapping[str, Any]


class Effect(StrEnum):
    """Whether a step's effect is there in the live system."""

    DONE = "done"
    NOT_DONE = "not done"
    HALF_DONE = "half done"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Probe:
    """What was found of a step's effect, and a sentence on it."""

    effect: Effect
    detail: str


@dataclass(frozen=True)
class Preview:
    """What a step would do, computed without doing it.

    `facts` must be the same when the step is applied; `volumes` may differ within the plan's tolerance; of the rows behind
    `keys`, none but those are acted on.
    """

    step: str
    title: str
    would: list[str]
    loses: list[str] = field(default_factory=list)
    locks: str = "none"
    undone_by: str = ""
    estimate: int = 0  # seconds
    facts: Facts = field(default_factory=dict)
    volumes: Mapping[str, int] = field(default_factory=dict)
    keys: str = ""  # the SHA-256 of the list of rows that it is about
    table: list[list[str]] = field(default_factory=list)  # what is to be read with it, the first row its head


class Step(Steered, ABC):
    """One step of a rollback on one target.

    A step that leaves something to be tidied up later reports it as a debt when it makes it, with `owe`; `purge` pays it.
    """

    CHOICES: Mapping[str, Mapping[str, str]] = {}  # what the engineer may choose: name -> value -> description

    def __init__(self, name: str, context: Context) -> None:
        super().__init__(name, context)
        self.spec: StepSpec = context.plan.steps[name]

    @property
    def title(self) -> str:
        """What the step is called in the plan."""
        return self.spec.title

    def default(self, choice: str) -> str:
        """What the plan says where the engineer does not choose. Read-only."""
        return str(getattr(self.spec, choice.lower()))

    def chosen(self, choice: str) -> str:
        """What the engineer chose, else what the plan says. Read-only.

        Raises:
            ParametersError: It cannot be chosen.
        """
        value = self.context.choices.get(choice, self.default(choice))
        if value not in self.CHOICES[choice]:
            raise ParametersError(
                f"{choice} is {value!r}, which cannot be chosen.",
                state="Nothing was touched.",
                safe_next=f"Choose one of: {', '.join(self.CHOICES[choice])}.",
            )
        return value

    @abstractmethod
    def preview(self) -> Preview:
        """What the step would change and lose. Read-only."""

    def tried(self, preview: Preview) -> Result | None:
        """What came of trying what was previewed on a schema-only clone; None where there is no DDL to be tried.

        Changes nothing in the target's database.
        """
        return None

    @abstractmethod
    def probe(self) -> Probe:
        """Whether the effect is there already. Read-only."""

    def preconditions(self) -> list[Result]:
        """What must hold before the step, each looked at. Read-only."""
        return []

    def too_little(self, approved: Mapping[str, Any]) -> str:
        """Why what was approved ("facts" and "volumes") is not enough to act on, "" where it is. Read-only."""
        return ""

    @abstractmethod
    def apply(self) -> Facts:
        """Do it, or go on where it stopped; returns what it left. Changes the target."""

    def settle_found(self) -> None:
        """Take over what is owed for an effect that was there already, or journal it as paid. Reads the target."""
        return  # most steps owe nothing for what somebody else did

    @abstractmethod
    def verify(self) -> list[Result]:
        """Whether what the step was for has come about. Read-only."""

    @abstractmethod
    def undo(self) -> Facts:
        """Put back what was there before; returns what that left. Changes the target."""

    def purge_preview(self, debt: str) -> Preview:
        """What paying a debt of this step would do. Read-only."""
        raise NotImplementedError(f"{type(self).__name__} leaves no debts")

    def purge(self, debt: str) -> Facts:
        """Pay a debt of this step, for good; returns what that left. Changes the target."""
        raise NotImplementedError(f"{type(self).__name__} leaves no debts")

    def owe(self, debt: str, text: str) -> None:
        """Journal a debt before it is made: its name within the run, and what is left to do."""
        self.context.report("owed", debt=debt, step=self.name, text=text)

    def paid(self, debt: str) -> None:
        """Journal that a debt is paid."""
        self.context.report("paid", debt=debt, step=self.name)

    def waiting(self, blockers: Sequence[object]) -> None:
        """Journal who was in the way of a lock."""
        self.context.report("waiting", step=self.name, blockers=[str(blocker) for blocker in blockers])

    def result(self, suffix: str, title: str, status: Any, summary: str, **evidence: Any) -> Result:
        """A result named after this step."""
        return Result(f"{self.name}: {suffix}", title, status, summary, evidence)
