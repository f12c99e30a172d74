"""Steps that hold still what would interfere with a rollback, and let it go again."""

from runbook_lib.adapters.freezing import Hold, holds
from runbook_lib.errors import AdapterError
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step

DEBT = "frozen: "
NOTHING = "the target names nothing to freeze"


class _Holding(Step):
    @property
    def holds(self) -> list[Hold]:
        return holds(self.context.target.freezes)

    def _owed(self) -> list[Hold]:
        """What this run has frozen and not released; what was found frozen belongs to somebody else."""
        return [hold for hold in self.holds if DEBT + hold.label in self.context.debts()]

    def _frozen(self, among: list[Hold]) -> list[str]:
        return [hold.label for hold in among if hold.is_frozen(self.context.processes)]

    def _freeze(self, hold: Hold) -> None:
        self.owe(DEBT + hold.label, f"{hold.label} is frozen: release it")
        hold.freeze(self.context.processes)

    def _release(self, hold: Hold) -> None:
        if hold.is_frozen(self.context.processes):
            hold.release(self.context.processes)
        self.paid(DEBT + hold.label)

    def _freeze_all(self) -> Facts:
        for hold in self.holds:
            if not hold.is_frozen(self.context.processes):
                self._freeze(hold)
        return {"frozen": [hold.label for hold in self._owed()]}

    def _release_all(self) -> Facts:
        owed = self._owed()
        for hold in owed:
            self._release(hold)
        return {"released": [hold.label for hold in owed]}

    def _as_it_should_be(self, among: list[Hold], *, frozen: bool) -> list[Result]:
        title = "Nothing interferes" if frozen else "What was held still goes on"
        try:
            found = self._frozen(among)
        except AdapterError as error:
            return [self.result("held", title, Status.UNKNOWN, error.what)]
        wrong = [hold.label for hold in among if (hold.label in found) is not frozen]
        if wrong:
            summary = f"{'not frozen' if frozen else 'still frozen'}: {', '.join(wrong)}"
            return [self.result("held", title, Status.FAIL, summary)]
        summary = ", ".join(hold.label for hold in among) or (NOTHING if not self.holds else "this run holds nothing")
        return [self.result("held", title, Status.PASS, summary)]


class FreezeAll(_Holding):
    """Freeze what the target names: deploys, autoscalers, queue consumers, on each host."""

    def preview(self) -> Preview:
        """What would be frozen, and what is already. Read-only."""
        frozen = self._frozen(self.holds)
        said = [f"freeze {h.label}{' (frozen already: left to whoever did)' * (h.label in frozen)}" for h in self.holds]
        return Preview(
            self.name,
            self.title,
            would=said or [f"do nothing: {NOTHING}"],
            undone_by="releasing what it froze",
            estimate=self.spec.estimate,
            facts={"freezes": [hold.label for hold in self.holds]},
        )

    def probe(self) -> Probe:
        """Whether all of it is frozen. Read-only."""
        frozen, wanted = self._frozen(self.holds), len(self.holds)
        if len(frozen) == wanted:
            return Probe(Effect.DONE, f"frozen: {', '.join(frozen)}" if frozen else NOTHING)
        return Probe(Effect.HALF_DONE if frozen else Effect.NOT_DONE, f"{len(frozen)} of {wanted} are frozen")

    def apply(self) -> Facts:
        """Freeze what is not frozen, each owed before it is frozen. Changes the target."""
        return self._freeze_all()

    def verify(self) -> list[Result]:
        """That each check says frozen. Read-only."""
        return self._as_it_should_be(self.holds, frozen=True)

    def undo(self) -> Facts:
        """Release what this run froze. Changes the target."""
        return self._release_all()

    def purge_preview(self, debt: str) -> Preview:
        """What paying it would do: release. Read-only."""
        would = [f"release {debt.removeprefix(DEBT)}"]
        return Preview(self.name, self.title, would=would, facts={"debt": debt})

    def purge(self, debt: str) -> Facts:
        """Release it. Changes the target."""
        for hold in self._owed():
            if DEBT + hold.label == debt:
                self._release(hold)
        return {"released": debt.removeprefix(DEBT)}


class ReleaseAll(_Holding):
    """Release what this run froze, whichever of its steps did."""

    def preview(self) -> Preview:
        """What would be released. Read-only."""
        return Preview(
            self.name,
            self.title,
            would=[f"release {hold.label}, if this run froze it" for hold in self.holds] or [f"do nothing: {NOTHING}"],
            undone_by="freezing it again",
            estimate=self.spec.estimate,
            facts={"freezes": [hold.label for hold in self.holds]},
        )

    def probe(self) -> Probe:
        """Whether this run still holds anything. Read-only."""
        owed = [hold.label for hold in self._owed()]
        if not owed:
            return Probe(Effect.DONE, "this run holds nothing")
        return Probe(Effect.NOT_DONE, f"this run holds {', '.join(owed)}")

    def apply(self) -> Facts:
        """Release it. Changes the target."""
        return self._release_all()

    def verify(self) -> list[Result]:
        """That each check of what was released says so. Read-only."""
        return self._as_it_should_be(self._released(), frozen=False)

    def undo(self) -> Facts:
        """Freeze again what this step released. Changes the target."""
        for hold in self._released():
            self._freeze(hold)
        return {"frozen": [hold.label for hold in self._owed()]}

    def _released(self) -> list[Hold]:
        released = self.context.outcomes.get(self.name, {}).get("released", [])
        return [hold for hold in self.holds if hold.label in released]
