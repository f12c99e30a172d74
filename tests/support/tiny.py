"""A step whose effect is a word in memory."""

from collections.abc import Callable
from typing import Any

from runbook_lib.errors import AdapterError
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.run import Run
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.by_hand import Instruction, in_words

FIRST, SECOND = "revert-frontend", "build-frontend"
BROKEN = AdapterError("The tool broke.", where="the tool", state="Half of it is there.", safe_next="Mend it.")


class Tiny(Step):
    """A step that records the calls it receives."""

    def __init__(self, name: str, run: Run) -> None:
        super().__init__(name, run.context)
        self.effect = Effect.NOT_DONE
        self.facts = {"database": "d"}
        self.wanted: list[Result] = []
        self.when = When.AT_THE_STEP
        self.found = Status.PASS
        self.action: Callable[[], Any] = lambda: None
        self.calls: list[str] = []

    def preview(self) -> Preview:
        return Preview(self.name, self.title, would=["do it"], facts=self.facts)

    def by_hand(self, preview: Preview) -> list[Instruction]:
        return [in_words("Do it.")]

    def probe(self) -> Probe:
        self.calls.append("probe")
        return Probe(self.effect, "looked")

    def needs(self) -> list[Precondition]:
        def look(found: Result) -> Callable[[], Found]:
            return lambda: (found.status, found.summary)

        return [Precondition(r.name, r.title, self.when, look(r), waivable=True) for r in self.wanted]

    def apply(self) -> Facts:
        self.calls.append("apply")
        self.action()
        self.effect = Effect.DONE
        return {"rows": 3}

    def verify(self) -> list[Result]:
        self.calls.append("verify")
        return [self.result("there", "It is there", self.found, "seen")]

    def undo(self) -> Facts:
        self.calls.append("undo")
        left = dict(self.left)
        self.action()
        self.effect = Effect.NOT_DONE
        return {"put back": left.get("rows")}


def kinds_of(run: Run, name: str = FIRST) -> list[str]:
    """What the journal says of a step."""
    return [event.kind for event in run.journal.events() if event.data.get("step") == name]


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def result(status: Status) -> Result:
    return Result("needed", "What is needed", status, "seen")
