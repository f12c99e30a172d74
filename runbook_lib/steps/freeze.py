"""Steps that freeze what would interfere with a rollback, and release it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.plan.steps import HELD, About, StepSpec, Touches
from runbook_lib.config.target import Freeze
from runbook_lib.errors import AdapterError
from runbook_lib.results import Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step, commands_here
from runbook_lib.steps.by_hand import Instruction, in_shell_at, in_words
from runbook_lib.system.processes import Processes, shown, until

INTERVAL = 0.2  # seconds between two runs of a check
YES, NO = 0, 1  # exit codes of a check; any other one means UNKNOWN


@dataclass(frozen=True)
class Hold:
    """One thing to freeze, on one host if there are several."""

    name: str
    commands: Freeze
    host: str = ""

    @property
    def label(self) -> str:
        """Its name in a preview, and as a cleanup item."""
        return f"{self.name} on {self.host}" if self.host else self.name

    def command(self, words: Sequence[str]) -> list[str]:
        """Return a command with the host filled in."""
        return [word.replace("{host}", self.host) for word in words]

    def is_frozen(self, processes: Processes) -> bool:
        """Run its check. Read-only.

        Raises:
            AdapterError: The check's exit code is neither 0 nor 1.
        """
        check = self.command(self.commands.check)
        answer = processes.run(check, timeout=self.commands.timeout)
        if answer.exit_code not in (YES, NO):
            raise AdapterError(
                f"Whether {self.label} is frozen is unknown: {shown(check)} ended with exit code {answer.exit_code}.",
                where=self.label,
                state="The check changed nothing.",
                safe_next="Make its check end with 0 while it is frozen, and with 1 while it is not.",
            )
        return answer.exit_code == YES

    def freeze(self, processes: Processes) -> None:
        """Freeze it, and wait until its check says so. Changes the target.

        Raises:
            AdapterError: The command failed, or its check does not say so in time.
        """
        self._do(processes, self.commands.freeze, frozen=True)

    def release(self, processes: Processes) -> None:
        """Release it, and wait until its check says so. Changes the target.

        Raises:
            AdapterError: The command failed, or its check does not say so in time.
        """
        self._do(processes, self.commands.release, frozen=False)

    def _do(self, processes: Processes, words: Sequence[str], *, frozen: bool) -> None:
        command = self.command(words)
        processes.run(command, timeout=self.commands.timeout).require()
        if not until(lambda: self.is_frozen(processes) is frozen, self.commands.timeout, INTERVAL):
            raise AdapterError(
                f"{shown(command)} succeeded, but the check of {self.label} still says "
                f"{'not frozen' if frozen else 'frozen'} after {self.commands.timeout} s.",
                where=self.label,
                state="Its current state is the one that its check reports.",
                safe_next="Inspect it by hand; then run the step again.",
            )


def holds(freezes: Mapping[str, Freeze]) -> list[Hold]:
    """Return what the target names to freeze, in its order. Pure."""
    return [Hold(name, freeze, host) for name, freeze in freezes.items() for host in freeze.hosts or [""]]


CLEANUP = "frozen: "
NOTHING = "the target names nothing to freeze"


class _Holding(Step):
    @property
    def holds(self) -> list[Hold]:
        return holds(self.context.target.freezes)

    def _pending(self) -> list[Hold]:
        """Return what this run has frozen and not released, without what others had frozen before."""
        return [hold for hold in self.holds if CLEANUP + hold.label in self.reporter.pending()]

    def _frozen(self, among: list[Hold]) -> list[str]:
        return [hold.label for hold in among if hold.is_frozen(self.context.adapters.processes)]

    def _freeze(self, hold: Hold) -> None:
        self.reporter.open_cleanup(CLEANUP + hold.label, f"{hold.label} is frozen: release it")
        hold.freeze(self.context.adapters.processes)

    def _release(self, hold: Hold) -> None:
        if hold.is_frozen(self.context.adapters.processes):
            hold.release(self.context.adapters.processes)
        self.reporter.close_cleanup(CLEANUP + hold.label)

    def adopt(self, item: str, text: str, run: str) -> None:
        """Take over a freeze as this run's own, if the target still names it."""
        if item in [CLEANUP + hold.label for hold in self.holds]:
            self.reporter.open_cleanup(item, text)
        else:
            super().adopt(item, text, run)

    def _freeze_all(self) -> Facts:
        for hold in self.holds:
            if not hold.is_frozen(self.context.adapters.processes):
                self._freeze(hold)
        return {"frozen": [hold.label for hold in self._pending()]}

    def _release_all(self) -> Facts:
        pending = self._pending()
        for hold in pending:
            self._release(hold)
        return {"released": [hold.label for hold in pending]}

    def _typed(self, *, frozen: bool) -> list[Instruction]:
        expect = f"the last line ends with exit code {YES if frozen else NO}: `echo $?`"
        return [
            in_shell_at(
                None,
                hold.command(hold.commands.freeze if frozen else hold.commands.release),
                hold.command(hold.commands.check),
                expect=expect if frozen else f"{expect}; keep frozen what somebody else had frozen before",
            )
            for hold in self.holds
        ] or [in_words(f"Nothing to do: {NOTHING}.")]

    def _commands_are_here(self, commands: list[list[str]]) -> Precondition:
        return self.need("commands", "The target's commands are here", When.BEFOREHAND, lambda: commands_here(commands))

    def _as_it_should_be(self, among: list[Hold], *, frozen: bool) -> list[Result]:
        title = "Nothing interferes" if frozen else "Everything that this run froze is released"
        try:
            found = self._frozen(among)
        except AdapterError as error:
            return [self.result("held", title, Status.UNKNOWN, error.what)]
        wrong = [hold.label for hold in among if (hold.label in found) is not frozen]
        if wrong:
            summary = f"{'not frozen' if frozen else 'still frozen'}: {', '.join(wrong)}"
            return [self.result("held", title, Status.FAIL, summary)]
        summary = ", ".join(hold.label for hold in among) or (NOTHING if not self.holds else "this run has frozen nothing")
        return [self.result("held", title, Status.PASS, summary)]


class FreezeKeys(StepSpec):
    """Freeze what the target names."""

    kind: Literal["freeze"]

    requires = ()
    about = About(
        title="Freeze deploys, autoscalers and consumers",
        estimate=10,
        does="Runs the target's freeze commands, so that nothing deploys or scales during the rollback.",
        expect="Each of the target's checks reports frozen.",
        if_not="Freeze by hand what the error names, then apply the step again: it finds it frozen.",
        preserves="What somebody else froze stays theirs. What this run froze is pending cleanup until it is released.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes what is frozen."""
        return Touches(changes=frozenset({HELD}))

    def after(self, state: State, rules: Rules) -> State:
        """Return the state unchanged."""
        return state


class FreezeAll(_Holding):
    """Freeze what the target names: deploys, autoscalers, queue consumers, on each host."""

    Keys = FreezeKeys

    def preview(self) -> Preview:
        """Show what would be frozen, and what already is. Read-only."""
        frozen = self._frozen(self.holds)
        said = [f"freeze {h.label}{' (already frozen, and stays so)' * (h.label in frozen)}" for h in self.holds]
        return Preview(
            self.name,
            self.title,
            would=said or [f"do nothing: {NOTHING}"],
            undone_by="releasing what it froze",
            estimate=self.spec.estimate,
            facts={"freezes": [hold.label for hold in self.holds]},
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return the target's commands, each with its check. Pure."""
        return self._typed(frozen=True)

    def needs(self) -> list[Precondition]:
        """The target's freeze commands can be run from here. Pure."""
        return [self._commands_are_here([hold.commands.freeze for hold in self.holds])]

    def probe(self) -> Probe:
        """Report whether everything is frozen. Read-only."""
        frozen, expected = self._frozen(self.holds), len(self.holds)
        if len(frozen) == expected:
            return Probe(Effect.DONE, f"frozen: {', '.join(frozen)}" if frozen else NOTHING)
        return Probe(Effect.HALF_DONE if frozen else Effect.NOT_DONE, f"{len(frozen)} of {expected} are frozen")

    def apply(self) -> Facts:
        """Freeze what is not frozen, with a cleanup item opened before each. Changes the target."""
        return self._freeze_all()

    def verify(self) -> list[Result]:
        """Check that everything is frozen. Read-only."""
        return self._as_it_should_be(self.holds, frozen=True)

    def undo(self) -> Facts:
        """Release what this run froze. Changes the target."""
        return self._release_all()

    def purge_preview(self, item: str) -> Preview:
        """Show what the cleanup would release. Read-only."""
        would = [f"release {item.removeprefix(CLEANUP)}"]
        return Preview(self.name, self.title, would=would, facts={"debt": item})

    def purge(self, item: str) -> Facts:
        """Release one item. Changes the target."""
        for hold in self._pending():
            if CLEANUP + hold.label == item:
                self._release(hold)
        return {"released": item.removeprefix(CLEANUP)}


class ReleaseKeys(StepSpec):
    """Release what this run froze."""

    kind: Literal["release"]

    requires = ()
    about = About(
        title="Release what was frozen",
        estimate=10,
        does="Runs the target's release commands for what this run froze.",
        expect="Each of the target's checks reports released.",
        if_not="Release by hand what the error names, then apply the step again: it finds it released.",
        preserves="What somebody else froze stays frozen.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes what is frozen."""
        return Touches(changes=frozenset({HELD}))

    def after(self, state: State, rules: Rules) -> State:
        """Return the state unchanged."""
        return state


class ReleaseAll(_Holding):
    """Release what any step of this run froze."""

    Keys = ReleaseKeys

    def preview(self) -> Preview:
        """Show what would be released. Read-only."""
        return Preview(
            self.name,
            self.title,
            would=[f"release {hold.label}, if this run froze it" for hold in self.holds] or [f"do nothing: {NOTHING}"],
            undone_by="freezing it again",
            estimate=self.spec.estimate,
            facts={"freezes": [hold.label for hold in self.holds]},
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return the target's commands, each with its check. Pure."""
        return self._typed(frozen=False)

    def needs(self) -> list[Precondition]:
        """The target's release commands can be run from here. Pure."""
        return [self._commands_are_here([hold.commands.release for hold in self.holds])]

    def probe(self) -> Probe:
        """Report whether anything is frozen by this run. Read-only."""
        pending = [hold.label for hold in self._pending()]
        if not pending:
            return Probe(Effect.DONE, "this run has frozen nothing")
        return Probe(Effect.NOT_DONE, f"this run has frozen {', '.join(pending)}")

    def apply(self) -> Facts:
        """Release everything that this run froze. Changes the target."""
        return self._release_all()

    def verify(self) -> list[Result]:
        """Check that everything that was frozen is released. Read-only."""
        return self._as_it_should_be(self._released(), frozen=False)

    def undo(self) -> Facts:
        """Freeze again what this step released. Changes the target."""
        for hold in self._released():
            self._freeze(hold)
        return {"frozen": [hold.label for hold in self._pending()]}

    def _released(self) -> list[Hold]:
        released = self.left.get("released", [])
        return [hold for hold in self.holds if hold.label in released]
