"""What every step can do: be previewed, probed, applied, verified and undone.

Each kind of step is one module of this room, or one that another package's entry point names.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

from runbook_lib.checks.pooler import POOLER
from runbook_lib.config.kinds import classes_of, collected
from runbook_lib.config.plan.steps import StepSpec
from runbook_lib.context import Context
from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.journal.control import Control, Reporter
from runbook_lib.postgres.pooler import Pooler
from runbook_lib.results import LOOK_FAILED, Found, Precondition, Result, Status, When, not_passed, why
from runbook_lib.steps.by_hand import Instruction, in_words
from runbook_lib.steps.pausing import PAUSED, Pausing
from runbook_lib.system.processes import not_found

Facts = Mapping[str, Any]
PATIENCE = "5s"  # for each count of `in_brief`
AT_THE_PREVIEW = (When.BEFOREHAND, When.ONLY_BEFOREHAND)


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
    measured: str = ""  # when it last took as long as the estimate says, in a run or rehearsal of about this size
    irreversible: bool = False  # whether nothing undoes it, or not all of it: then it is confirmed a second time
    by_hand: list[Instruction] = field(default_factory=list)  # what a person does where nothing else runs
    goes_first: bool = False  # whether it is done before the outage begins, wherever the plan has it


def commands_here(commands: Collection[Sequence[str]]) -> Found:
    """Whether the programs of a target's commands can be run from here. Read-only."""
    if missing := not_found(commands):
        return (
            Status.FAIL,
            f"cannot be run from here: {', '.join(missing)}. Correct the target, or install it.",
        )
    return Status.PASS, ", ".join(dict.fromkeys(command[0] for command in commands)) or "there are none"


def looked_at(need: Precondition) -> Result:
    """Look at what must hold; what cannot be looked at is UNKNOWN. Read-only."""
    try:
        found = need.look()
    except LOOK_FAILED as error:
        found = why(error)
    return need.result(found)


class Step(ABC):
    """One step of a rollback on one target.

    A step that leaves something to be cleaned up later reports it before, with `reporter.open_cleanup`; `purge` does it.
    """

    WORKS_IN_PARTS = False  # whether it can be paused, resumed and aborted between two of them

    BEGINS_OUTAGE = False  # whether users wait from here on
    UNDONE_LAST = False  # whether undoing it brings up what the undo of all others has made
    CHOICES: Mapping[str, Mapping[str, str]] = {}  # those that are the same for every run
    LATER: Mapping[str, Mapping[str, str]] = {}  # the same, of what nobody is asked beforehand
    # Cleanup until which nobody can look at the target -> the check whose waiver resumes the run without it, "" for none.
    DUE_AT_ONCE: Mapping[str, str] = {PAUSED: POOLER}

    Keys: ClassVar[type[StepSpec]]  # what a plan says of such a step, and what the kind says of itself

    def __init__(self, name: str, context: Context) -> None:
        self.name = name
        self.context = context
        self.control = Control(context.folder.path, name, lambda: self.reporter)
        self.spec: StepSpec = context.plan.steps[name]

    @property
    def reporter(self) -> Reporter:
        """What journals how the step gets on, and what cleanup it leaves."""
        return self.context.reporter.of(self.name)

    @property
    def approved(self) -> Facts:
        """The facts that were approved, none where nothing of this step was."""
        return self.context.state.approved_facts(self.name)

    @property
    def approved_rows(self) -> int:
        """How many rows were approved, 0 where nothing of this step was."""
        return int(self.context.state.agreed.get(self.name, {}).get("volumes", {}).get("rows", 0))

    @property
    def left(self) -> Facts:
        """What the step has left, by the journal."""
        return self.context.state.step(self.name).outcome

    @property
    def is_done(self) -> bool:
        """Whether the journal has the step finished."""
        return self.context.state.step(self.name).is_done

    @property
    def goes_first(self) -> bool:
        """Whether the step is done before the one that begins the outage, wherever the plan has it."""
        return False

    @property
    def title(self) -> str:
        """What the step is called in the plan."""
        return self.spec.title

    def default(self, choice: str) -> str:
        """What the plan says where the engineer does not choose. Read-only."""
        return str(getattr(self.spec, choice.lower()))

    def choices(self) -> Mapping[str, Mapping[str, str]]:
        """All that may be chosen of the step: name -> value -> description. Read-only."""
        return {**self.CHOICES, **self.LATER}

    def chosen(self, choice: str) -> str:
        """What the engineer chose, else what the plan says. Read-only.

        Raises:
            ParametersError: It cannot be chosen.
        """
        value = self.context.state.choices.get(choice, self.default(choice))
        if value not in self.choices()[choice]:
            raise ParametersError(
                f"{choice} is {value!r}, which cannot be chosen.",
                state="Nothing was touched.",
                safe_next=f"Choose one of: {', '.join(self.choices()[choice])}.",
            )
        return value

    def in_brief(self) -> tuple[str, str] | None:
        """What it would change in the data, and lose, in numbers that come quickly; None for nothing. Read-only."""
        return None  # most steps leave the data alone

    @abstractmethod
    def preview(self) -> Preview:
        """What the step would change and lose. Read-only."""

    @abstractmethod
    def by_hand(self, preview: Preview) -> list[Instruction]:
        """What a person does, in order, in place of what was previewed; what cannot be written down, in words. Read-only."""

    def dry_run_of_ddl(self, preview: Preview) -> list[Result]:
        """What came of trying what was previewed on a clone; nothing where there is no DDL to be tried.

        Changes nothing in the target's database.
        """
        return []

    def await_target(self) -> None:
        """Wait while somebody keeps the step from reading what it works on, and journal who. Read-only.

        Raises:
            PreconditionError: Somebody does for too long.
        """
        return  # most steps read nothing that others lock

    @abstractmethod
    def probe(self) -> Probe:
        """Whether the effect is there already. Read-only."""

    @abstractmethod
    def needs(self) -> list[Precondition]:
        """What must hold before the step acts, and when each can be looked at (see `results.py`). Pure."""

    def need(
        self, suffix: str, title: str, when: When, look: Callable[[], Found], *, waivable: bool = False
    ) -> Precondition:
        """A precondition named after this step; without a suffix it is waived with the step itself."""
        return Precondition(f"{self.name}: {suffix}" if suffix else self.name, title, when, look, waivable or not suffix)

    def preconditions(self, *when: When) -> list[Result]:
        """Look at what must hold just before the step acts, or at what can be looked at then. Read-only."""
        return [
            replace(looked_at(need), evidence={"step": self.name, "waivable": need.waivable})
            for need in self.needs()
            if need.when in (when or (When.BEFOREHAND, When.AT_THE_STEP))
        ]

    def previewed(self, *, begun: bool) -> tuple[Preview, list[Result]]:
        """The preview, and what was found of all that can be looked at before the step. Read-only.

        A preview that cannot be made is one of these. A step that this run has begun needs nothing once its effect is there;
        before, what a probe finds may be what only a step before it changes, as what is frozen.
        """
        made: list[Preview] = []

        def shown() -> Found:
            made.append(self.preview())
            return Status.PASS, "it is shown"

        first = looked_at(self.need("preview", "The step can be previewed", When.BEFOREHAND, shown))
        looks = [replace(first, evidence={"step": self.name}), *(self.preconditions(*AT_THE_PREVIEW) if made else [])]
        if begun and not_passed(looks) and (there := self._is_there()):
            looks = [replace(look, status=Status.PASS, summary=f"not needed: {there}") for look in looks]
        if not made:
            return Preview(self.name, self.title, would=[f"stop: {first.summary}"], estimate=self.spec.estimate), looks
        would = [*made[0].would, *self._waits_of_clients(made[0])]
        return replace(made[0], would=would, by_hand=self._by_hand(made[0]), goes_first=self.goes_first), looks

    def _by_hand(self, preview: Preview) -> list[Instruction]:
        """What a person does; where that cannot be found out now, why. Read-only."""
        try:
            return self.by_hand(preview)
        except LOOK_FAILED as error:
            return [in_words(f"not known, as it could not be found out when this was previewed: {why(error)[1]}")]

    def _waits_of_clients(self, preview: Preview) -> list[str]:
        """For how long clients of poolers would wait, a line each. Read-only."""
        work = self.milliseconds_paused(preview)
        return [
            f"pause {pooler} each time that strong locks are taken: its clients wait up to "
            f"{pooler.limit * 1000 + work:.0f} ms ({pooler.limit * 1000:.0f} for transactions in progress), and get no error"
            for pooler in (self.poolers if work else [])
        ]

    def _is_there(self) -> str:
        """What shows that the effect is there already, "" where it is not, or is unknown. Read-only."""
        try:
            probe = self.probe()
        except RunbookError:
            return ""
        return probe.detail if probe.effect is Effect.DONE else ""

    def approval_gap(self, approved: Mapping[str, Any]) -> str:
        """Why what was approved ("facts" and "volumes") is not enough to act on, "" where it is. Read-only."""
        return ""

    def sessions(self) -> AbstractContextManager[None]:
        """What the sessions of the target's database last for while the step is looked at, done and verified."""
        return nullcontext()  # for one connection, mostly

    def make_ready(self) -> None:
        """Do, before the first step of the run, what the step needs and no user notices. Changes the target."""
        return  # most steps need nothing

    @abstractmethod
    def apply(self) -> Facts:
        """Do it, or go on where it stopped; returns what it left. Changes the target."""

    def adopt_existing(self) -> None:
        """Take over the cleanup of an effect that was there already, or journal it as done. Reads the target."""
        return  # most steps leave no cleanup for what somebody else did

    @abstractmethod
    def verify(self) -> list[Result]:
        """Whether what the step was for has come about. Read-only."""

    @abstractmethod
    def undo(self) -> Facts:
        """Put back what was there before; returns what that left. Changes the target."""

    def cannot_undo(self) -> str:
        """Why this run's step cannot be undone now, "" where it can. Read-only."""
        return ""

    def undo_leaves(self) -> str:
        """What an undo of this step leaves as somebody else made it since, "" for nothing. Read-only."""
        return ""

    def purge_preview(self, item: str) -> Preview:
        """What cleaning up one item of this step would do. Read-only."""
        raise NotImplementedError(f"{type(self).__name__} leaves no cleanup")

    def purge(self, item: str) -> Facts:
        """Clean up one item of this step, for good; returns what that left. Changes the target."""
        raise NotImplementedError(f"{type(self).__name__} leaves no cleanup")

    @property
    def poolers(self) -> list[Pooler]:
        """The target's poolers; none where their check was waived, which is to go on without."""
        return [] if POOLER in self.context.state.waivers else self.context.adapters.poolers

    def milliseconds_paused(self, preview: Preview) -> int:
        """For how long, at most, clients of poolers wait at a time for what was previewed; 0 for never. Pure."""
        return 0  # most steps take no strong locks

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Have clients of the target's poolers wait whenever the block takes strong locks for a moment."""
        adapters = self.context.adapters
        adapters.pausing = Pausing(self.poolers, self.reporter, adapters.postgres.connect) if self.poolers else nullcontext
        try:
            yield
        finally:
            adapters.pausing = nullcontext

    def cleanup_preview(self, item: str) -> Preview:
        """What cleaning up one item of this step would do, whichever kind of step it is. Read-only."""
        if item != PAUSED:
            return self.purge_preview(item)
        return Preview(self.name, self.title, would=[self._pausing.would])

    def clean_up(self, item: str) -> Facts:
        """Clean up one item of this step, for good, whichever kind of step it is. Changes the target."""
        if item != PAUSED:
            with self.acting():
                return self.purge(item)
        return self._pausing.clean_up(waived=POOLER in self.context.state.waivers)

    def clean_up_waived(self, item: str) -> str:
        """Clean up one item that is due at once and waived, tried once; returns what is left to do by hand, "" for nothing.

        Changes the target.
        """
        if item != PAUSED:
            raise NotImplementedError(f"{type(self).__name__} lets nobody waive {item}")
        return self._pausing.resume_once()

    @property
    def _pausing(self) -> Pausing:
        return Pausing(self.context.adapters.poolers, self.reporter, self.context.adapters.postgres.connect)

    def adopt(self, item: str, text: str, run: str) -> None:
        """Take over what another run left to be tidied up by this step. Changes the journal only."""
        self.reporter.adopt(item, text, run)

    def result(self, suffix: str, title: str, status: Any, summary: str, **evidence: Any) -> Result:
        """A result named after this step."""
        return Result(f"{self.name}: {suffix}", title, status, summary, evidence)


@cache
def kinds() -> dict[str, type[Step]]:
    """The kinds of step that are installed, by the name that plans give them. Read-only.

    Raises:
        TypeError: A kind declares no keys of its own, or two have one name.
    """
    return collected(__name__, "runbook_lib.steps", _declared)


def _declared(module: ModuleType) -> Iterator[tuple[type[StepSpec], type[Step]]]:
    for step in classes_of(module):
        if issubclass(step, Step) and not inspect.isabstract(step):
            if "Keys" not in vars(step):
                raise TypeError(f"{step.__module__}.{step.__name__} does not declare its keys")
            yield step.Keys, step


def kind(name: str) -> type[Step]:
    """The class of a kind of step. Read-only."""
    return kinds()[name]


def steps_of(context: Context) -> dict[str, Step]:
    """The steps of the run's rollback type, in order."""
    return {name: kind(spec.kind)(name, context) for name, spec in context.specs.items()}


def step_named(context: Context, name: str) -> Step:
    """A step of the plan, whatever the run's option is by now."""
    return kind(context.plan.steps[name].kind)(name, context)
