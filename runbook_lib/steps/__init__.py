"""The base of all steps: preview, probe, apply, verify and undo.

Each kind of step is one module of this package, or one that another package's entry point names.
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
    """Whether a step's effect exists in the live system."""

    DONE = "done"
    NOT_DONE = "not done"
    HALF_DONE = "half done"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Probe:
    """The state of a step's effect, and a sentence on it."""

    effect: Effect
    detail: str


@dataclass(frozen=True)
class Preview:
    """What a step would do, computed without doing it.

    When the step is applied, `facts` must be the same, and `volumes` may differ within the plan's tolerance. The step acts
    only on the rows behind `keys`.
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
    keys: str = ""  # the SHA-256 of the list of affected rows
    table: list[list[str]] = field(default_factory=list)  # shown with it; the first row is the header
    measured: str = ""  # when a run or rehearsal of about this size was measured for the estimate
    irreversible: bool = False  # whether it cannot be undone completely; if so, it is confirmed a second time
    by_hand: list[Instruction] = field(default_factory=list)  # for a person, if the runbook cannot run
    goes_first: bool = False  # whether it runs before the outage begins, wherever the plan has it


def commands_here(commands: Collection[Sequence[str]]) -> Found:
    """Check that the programs of a target's commands can be run from here. Read-only."""
    if missing := not_found(commands):
        return (
            Status.FAIL,
            f"cannot be run from here: {', '.join(missing)}. Correct the target, or install it.",
        )
    return Status.PASS, ", ".join(dict.fromkeys(command[0] for command in commands)) or "no command is needed"


def looked_at(need: Precondition) -> Result:
    """Look at a precondition; UNKNOWN if the look fails. Read-only."""
    try:
        found = need.look()
    except LOOK_FAILED as error:
        found = why(error)
    return need.result(found)


class Step(ABC):
    """One step of a rollback on one target.

    A step reports each cleanup item with `reporter.open_cleanup` before it creates the item; `purge` cleans it up.
    """

    WORKS_IN_PARTS = False  # whether it can be paused, resumed and aborted between two parts

    BEGINS_OUTAGE = False  # whether users wait from this step on
    UNDONE_LAST = False  # whether its undo starts what the undo of all other steps has prepared
    CHOICES: Mapping[str, Mapping[str, str]] = {}  # choices that are the same for every run
    LATER: Mapping[str, Mapping[str, str]] = {}  # the same, for choices that nobody must make beforehand
    # Cleanup item that blocks any look at the target -> the check whose waiver resumes the run without it, "" for none.
    DUE_AT_ONCE: Mapping[str, str] = {PAUSED: POOLER}

    Keys: ClassVar[type[StepSpec]]  # the keys of such a step in a plan, and the kind's description of itself

    def __init__(self, name: str, context: Context) -> None:
        self.name = name
        self.context = context
        self.control = Control(context.folder.path, name, lambda: self.reporter)
        self.spec: StepSpec = context.plan.steps[name]

    @property
    def reporter(self) -> Reporter:
        """The journal of the step's progress and of the cleanup items it leaves."""
        return self.context.reporter.of(self.name)

    @property
    def approved(self) -> Facts:
        """The approved facts; empty if nothing of this step was approved."""
        return self.context.state.approved_facts(self.name)

    @property
    def approved_rows(self) -> int:
        """The number of approved rows; 0 if nothing of this step was approved."""
        return int(self.context.state.agreed.get(self.name, {}).get("volumes", {}).get("rows", 0))

    @property
    def left(self) -> Facts:
        """The result that the step has recorded in the journal."""
        return self.context.state.step(self.name).outcome

    @property
    def is_done(self) -> bool:
        """Whether the step is finished according to the journal."""
        return self.context.state.step(self.name).is_done

    @property
    def goes_first(self) -> bool:
        """Whether the step runs before the outage begins, wherever the plan has it."""
        return False

    @property
    def title(self) -> str:
        """The step's title in the plan."""
        return self.spec.title

    def default(self, choice: str) -> str:
        """Return the plan's value of a choice, for an engineer who does not choose. Read-only."""
        return str(getattr(self.spec, choice.lower()))

    def choices(self) -> Mapping[str, Mapping[str, str]]:
        """Return the step's choices: name -> value -> description. Read-only."""
        return {**self.CHOICES, **self.LATER}

    def chosen(self, choice: str) -> str:
        """Return the engineer's choice, else the plan's value. Read-only.

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
        """Return what it would change in the data and lose, in quick numbers; None for nothing. Read-only."""
        return None  # most steps do not touch the data

    @abstractmethod
    def preview(self) -> Preview:
        """Compute what the step would change and lose. Read-only."""

    @abstractmethod
    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return the steps for a person to do by hand instead, in order; in words if no script can do it. Read-only."""

    def dry_run_of_ddl(self, preview: Preview) -> list[Result]:
        """Try the previewed DDL on a clone; no result if there is no DDL to try.

        Changes nothing in the target's database.
        """
        return []

    def await_target(self) -> None:
        """Wait while a session blocks the step from reading its data, and journal which one. Read-only.

        Raises:
            PreconditionError: A session blocks it for too long.
        """
        return  # most steps read nothing that other sessions lock

    @abstractmethod
    def probe(self) -> Probe:
        """Report whether the effect exists already. Read-only."""

    @abstractmethod
    def needs(self) -> list[Precondition]:
        """Return the preconditions, and when each can be looked at (see `results.py`). Pure."""

    def need(
        self, suffix: str, title: str, when: When, look: Callable[[], Found], *, waivable: bool = False
    ) -> Precondition:
        """Make a precondition named after this step; without a suffix it is waived with the step itself."""
        return Precondition(f"{self.name}: {suffix}" if suffix else self.name, title, when, look, waivable or not suffix)

    def preconditions(self, *when: When) -> list[Result]:
        """Look at the preconditions just before the step acts, or at those of the given times. Read-only."""
        return [
            replace(looked_at(need), evidence={"step": self.name, "waivable": need.waivable})
            for need in self.needs()
            if need.when in (when or (When.BEFOREHAND, When.AT_THE_STEP))
        ]

    def previewed(self, *, begun: bool) -> tuple[Preview, list[Result]]:
        """Return the preview, and the results of all preconditions that can be looked at before the step. Read-only.

        A failed preview is one of the results. A step that this run has begun needs nothing once its effect exists. Before
        that, a probe may see a state that an earlier step still changes, such as a freeze.
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
        """Return the steps by hand, or why they cannot be computed now. Read-only."""
        try:
            return self.by_hand(preview)
        except LOOK_FAILED as error:
            return [in_words(f"unknown, because the preview could not compute it: {why(error)[1]}")]

    def _waits_of_clients(self, preview: Preview) -> list[str]:
        """Return how long clients of each pooler would wait, one line each. Read-only."""
        work = self.milliseconds_paused(preview)
        return [
            f"pause {pooler} each time the step takes strong locks: its clients wait up to "
            f"{pooler.limit * 1000 + work:.0f} ms ({pooler.limit * 1000:.0f} for transactions in progress), and get no error"
            for pooler in (self.poolers if work else [])
        ]

    def _is_there(self) -> str:
        """Return the evidence that the effect exists already; "" if it does not, or is unknown. Read-only."""
        try:
            probe = self.probe()
        except RunbookError:
            return ""
        return probe.detail if probe.effect is Effect.DONE else ""

    def approval_gap(self, approved: Mapping[str, Any]) -> str:
        """Return why the approval ("facts" and "volumes") is not sufficient, "" if it is. Read-only."""
        return ""

    def sessions(self) -> AbstractContextManager[None]:
        """Return a context for the lifetime of database sessions while the step is looked at, applied and verified."""
        return nullcontext()  # most steps open a session for each use

    def make_ready(self) -> None:
        """Prepare, before the run's first step, what the step needs and no user notices. Changes the target."""
        return  # most steps need nothing

    @abstractmethod
    def apply(self) -> Facts:
        """Apply the step, or resume it; returns what it left. Changes the target."""

    def adopt_existing(self) -> None:
        """Take over the cleanup of an effect that existed already, or journal it as done. Reads the target."""
        return  # most steps leave no cleanup for the work of others

    @abstractmethod
    def verify(self) -> list[Result]:
        """Check that the step reached its goal. Read-only."""

    @abstractmethod
    def undo(self) -> Facts:
        """Restore the previous state; returns what the undo left. Changes the target."""

    def cannot_undo(self) -> str:
        """Return why this run's step cannot be undone now, "" if it can. Read-only."""
        return ""

    def undo_leaves(self) -> str:
        """Return which later changes by others an undo of this step would leave, "" for none. Read-only."""
        return ""

    def purge_preview(self, item: str) -> Preview:
        """Preview the cleanup of one item of this step. Read-only."""
        raise NotImplementedError(f"{type(self).__name__} leaves no cleanup")

    def purge(self, item: str) -> Facts:
        """Clean up one item of this step permanently; returns what that left. Changes the target."""
        raise NotImplementedError(f"{type(self).__name__} leaves no cleanup")

    @property
    def poolers(self) -> list[Pooler]:
        """The target's poolers; none if their check was waived, since the run then continues without them."""
        return [] if POOLER in self.context.state.waivers else self.context.adapters.poolers

    def milliseconds_paused(self, preview: Preview) -> int:
        """Return the longest single wait of pooler clients for the previewed work; 0 for none. Pure."""
        return 0  # most steps take no strong locks

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Pause the target's poolers whenever the block takes strong locks."""
        adapters = self.context.adapters
        adapters.pausing = Pausing(self.poolers, self.reporter, adapters.postgres.connect) if self.poolers else nullcontext
        try:
            yield
        finally:
            adapters.pausing = nullcontext

    def cleanup_preview(self, item: str) -> Preview:
        """Preview the cleanup of one item of this step, for any kind of step. Read-only."""
        if item != PAUSED:
            return self.purge_preview(item)
        return Preview(self.name, self.title, would=[self._pausing.would])

    def clean_up(self, item: str) -> Facts:
        """Clean up one item of this step permanently, for any kind of step. Changes the target."""
        if item != PAUSED:
            with self.acting():
                return self.purge(item)
        return self._pausing.clean_up(waived=POOLER in self.context.state.waivers)

    def clean_up_waived(self, item: str) -> str:
        """Try once to clean up a waived item that blocks the run; returns what is left to do by hand, "" for nothing.

        Changes the target.
        """
        if item != PAUSED:
            raise NotImplementedError(f"{type(self).__name__} does not allow a waiver of {item}")
        return self._pausing.resume_once()

    @property
    def _pausing(self) -> Pausing:
        return Pausing(self.context.adapters.poolers, self.reporter, self.context.adapters.postgres.connect)

    def adopt(self, item: str, text: str, run: str) -> None:
        """Take over a cleanup item of this step from another run. Changes the journal only."""
        self.reporter.adopt(item, text, run)

    def result(self, suffix: str, title: str, status: Any, summary: str, **evidence: Any) -> Result:
        """Make a result named after this step."""
        return Result(f"{self.name}: {suffix}", title, status, summary, evidence)


@cache
def kinds() -> dict[str, type[Step]]:
    """Return the installed kinds of step, by their name in plans. Read-only.

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
    """Return the class of a kind of step. Read-only."""
    return kinds()[name]


def steps_of(context: Context) -> dict[str, Step]:
    """Return the steps of the run's rollback type, in order."""
    return {name: kind(spec.kind)(name, context) for name, spec in context.specs.items()}


def step_named(context: Context, name: str) -> Step:
    """Return a step of the plan, whatever the run's current option is."""
    return kind(context.plan.steps[name].kind)(name, context)
