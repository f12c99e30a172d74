"""One run of a rollback: its folder, its journal, its observations and its approval.

Its operations have their own modules: lifecycle, engine, lease, recovery, undo and cleanup.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import accumulate
from math import ceil

from runbook_lib import checks, records
from runbook_lib.checks import BEFORE, CheckContext, rehearsed
from runbook_lib.checks.prerequisites import PREREQUISITES, looked, prerequisites
from runbook_lib.config.plan import DatabaseStep, ServicesStep
from runbook_lib.context import Context, comparison, profiles
from runbook_lib.errors import AdapterError, Declined, ParametersError, PreconditionError, RunbookError, UnknownOutcome
from runbook_lib.journal import Journal, elapsed, past
from runbook_lib.journal.control import Reporter, Request, request_control
from runbook_lib.journal.event import Event
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState, replay
from runbook_lib.results import Result, Status, not_passed, verdict
from runbook_lib.run import approval
from runbook_lib.run.approval import require_reason
from runbook_lib.steps import Effect, Preview, Step, ddl_dry_run, steps_of
from runbook_lib.system.processes import typed

LOG_SECONDS = 3600
TAKEN_OVER = "taken-over"  # the name of the look for the cleanup of a run taken over


class Run:
    """An open run; it journals everything it observes or does."""

    def __init__(self, folder: RunFolder, context: Context) -> None:
        self.folder = folder
        self.context = context
        self.journal = Journal(folder.journal_path)
        context.reporter = Reporter(self.journal.append, lambda: self.state.pending)
        context.now = lambda: elapsed.present(self.journal.events())
        self.made_ready: set[tuple[str, str]] = set()  # approval and step, of steps not begun yet
        self._begun: dict[str, CheckContext] = {}
        self._known: tuple[Event | None, RunState | None] = None, None  # the last event read, and the state after it
        self.refresh()

    @property
    def state(self) -> RunState:
        """The run's current state, from the journal. Read-only."""
        events, (last, known) = self.journal.events(), self._known
        goes_on = last and events[last.seq - 1 : last.seq] == [last]
        state = replay(events[last.seq :] if last and goes_on else events, known if goes_on else None)
        self._known = events[-1], state
        return state

    @property
    def steps(self) -> dict[str, Step]:
        """The steps of the run's rollback type, in order."""
        return steps_of(self.context)

    @property
    def touches_database(self) -> bool:
        """Whether any step of the type changes or reads the database."""
        return self.context.touches_database

    def refresh(self) -> RunState:
        """Update this process's context with what other processes have journaled."""
        self.context.state = state = self.state
        return state

    def request(self, request: Request) -> str:
        """Ask the running step to pause, resume or abort; returns its title. Changes the run folder.

        Raises:
            PreconditionError: No step of the run acts now, or it does not work in batches.
        """
        return request_control(self.folder, self.journal, request, self.context.operator)

    def choose(self, name: str, value: str, by: str) -> None:
        """Record a choice and apply it to the run."""
        if self.state.choices.get(name) != value:
            self.journal.append("chosen", name=name, value=value, by=by)
        self._settle_option(by)

    def override(self, advised: str, chosen: str, reason: str) -> None:
        """Record that the engineer chose another type than triage recommends, and why."""
        self.journal.append("overridden", recommended=advised, chosen=chosen, reason=reason, by=self.context.operator)

    def details(self) -> dict[str, tuple[Mapping[str, str], str]]:
        """Return the choices of the remaining steps: name -> values with descriptions, and the current value."""
        return {n: (values, step.chosen(n)) for step in self.steps.values() for n, values in step.choices().items()}

    def asks_for(self, name: str) -> bool:
        """Check whether an engineer must make a choice beforehand; if not, only after a failed step. Read-only."""
        return not any(name in step.LATER for step in self.steps.values())

    def waive(self, name: str, reason: str) -> None:
        """Record that a check or a step may fail, and why.

        Raises:
            ParametersError: There is no such prerequisite, check or step, or the reason is too short.
        """
        known = self.waivable()
        if name not in known:
            raise ParametersError(
                f"There is no check or step {name!r} to waive.",
                state="Nothing was waived.",
                safe_next=f"Name one of: {', '.join(known)}.",
            )
        require_reason(reason, f"The reason for waiving {name}", "Nothing was waived.")
        if self.state.waivers.get(name, {}).get("reason") != reason:
            self.journal.append("waived", name=name, reason=reason, by=self.context.operator)

    def waivable(self) -> list[str]:
        """Return the names that may be waived. Pure."""
        plan, needs = self.context.plan, [need for step in self.steps.values() for need in step.needs()]
        of_steps = [need.name for need in needs if need.waivable]
        before = [name for name, each in PREREQUISITES.items() if each.waivable]
        tried = [ddl_dry_run.NAME, ddl_dry_run.EXERCISE]
        return list(dict.fromkeys([*before, *tried, TAKEN_OVER, *plan.checks, *plan.steps, *of_steps]))

    def prerequisites(self) -> list[Result]:
        """Look at all prerequisites of the downtime, and journal the results. Read-only.

        Raises:
            PreconditionError: A prerequisite fails, or could not be looked at.
        """
        return self.require(self.record("prerequisites", prerequisites(self.context)))

    def observe(self, round_name: str, names: Sequence[str]) -> list[Result]:
        """Run some of the plan's checks and journal them. Read-only."""
        checked = self._begun.pop(round_name, None) or self._check_context(round_name)
        results = self.record(round_name, checks.run(names, checked))
        for result in results:
            for key, kind in (("plot", "image"), ("text", "text")):
                if file := result.evidence.get(key):
                    self.journal.append("evidence", title=f"{result.title}, {round_name}", file=file, kind=kind)
        for name in [*checked.__dict__.get("visits", {}), *checked.__dict__.get("other_visits", {})]:
            self.journal.append(
                "evidence", title=f"Page of {name}, {round_name}", file=checked.screenshot(name), kind="image"
            )
        return results

    def look_before(self) -> None:
        """Look at the users' page once before the first change; a broken page stops nothing. Read-only."""
        if names := self._looks_before():
            self.observe(BEFORE, names)

    def begin_look_before(self) -> None:
        """Begin to open that page, if the look is still due; the look then waits for it. Read-only."""
        if names := self._looks_before():
            self._begun[BEFORE] = self._check_context(BEFORE)
            checks.begin(names, self._begun[BEFORE])

    def expect_looks_after(self, step: str) -> None:
        """Start the browser before the type's last step, for the look at the page after it. Read-only."""
        plan, state = self.context.plan, self.state
        looks = [name for name in plan.types[state.type].checks if plan.checks[name].opens]
        if step == plan.steps_of(state.type, state.option)[-1] and looks and (profile := profiles.of(self.folder.path)):
            self.context.adapters.browser.warm(profile)

    def previews(self) -> tuple[str, list[Preview]]:
        """Preview every step, record the current data, and journal the digest for an approval. Read-only."""
        if self.touches_database:
            try:
                comparison.keep_before(self.context)
            except AdapterError as error:  # often a corrupt table, which must not prevent its restore
                self.journal.append("noted", text=f"The data before the rollback could not be recorded: {error.what}")
        steps, known = self.steps, self.state
        begun = {name for name in steps if known.step(name).status not in ("pending", "undone")}
        looked = {name: step.previewed(begun=name in begun) for name, step in steps.items()}
        found = self._measured([preview for preview, _ in looked.values()])
        binding = approval.bound(found)
        digest = approval.digest(binding)
        psql = typed(self.context.adapters.dump_tools.command_of_psql())
        self.journal.append("previewed", digest=digest, steps=binding, shown=[asdict(p) for p in found], psql=psql)
        self.record(f"foreseen:{digest}", (look for _, looks in looked.values() for look in looks))
        before = self.dry_run_of_ddl(digest)
        if not before or not_passed(before):
            trials = {n: steps[n].dry_run_of_ddl(preview) for n, (preview, looks) in looked.items() if not not_passed(looks)}
            named = [
                replace(r, evidence={**r.evidence, "step": n, "waivable": True}) for n, came in trials.items() for r in came
            ]
            self.record(f"clone:{digest}", named)
        return digest, found

    def _measured(self, previews: Sequence[Preview]) -> list[Preview]:
        """Return the previews, with measured times of runs and rehearsals of this size as estimates. Read-only."""
        plan, rows = self.context.plan, max((preview.volumes.get("rows", 0) for preview in previews), default=0)
        found = []
        for preview in previews:
            spec = plan.steps[preview.step]
            known = past.measured(self.earlier, self._key, preview.step, rows, grows=isinstance(spec, DatabaseStep))
            if known and preview.estimate == spec.estimate:
                preview = replace(preview, estimate=ceil(known[0]), measured=known[1])
            found.append(preview)
        return found

    @property
    def _key(self) -> tuple[str, str, str]:
        return self.context.plan.feature, self.context.type, self.context.option

    @cached_property
    def earlier(self) -> list[past.Past]:
        """Return the timings of the runs next to this one, and of readable rehearsal records. Read-only."""
        found = past.read(self.folder.path.parent, but=self.folder.id)
        with suppress(AdapterError):  # an estimate is not essential
            place = records.of_target(self.context.target, self.folder.path.parent, self.context.adapters.processes)
            found += [record.walk.past(self.context.option) for record in records.kept(place).records]
        return found

    def require_rehearsed(self) -> None:
        """Check that the run was rehearsed if its plan requires that, and journal it. Read-only.

        Raises:
            PreconditionError: It was not, or with other inputs, or too long ago.
            UnknownOutcome: The records could not be read.
        """
        if rehearsed.concerns(self.context):
            self.require(self.record("prerequisites", [looked(self.context, rehearsed.REHEARSED)]))

    def dry_run_of_ddl(self, digest: str) -> list[Result]:
        """Return the journaled results of the DDL dry run for the previews of that digest. Read-only."""
        return self.recorded(f"clone:{digest}")

    def foreseen(self, digest: str) -> list[Result]:
        """Return the journaled results of the preconditions for the previews of that digest. Read-only."""
        return self.recorded(f"foreseen:{digest}")

    def obstacles(self, digest: str, steps: Collection[str] | None = None) -> list[Result]:
        """Return why the previews of that digest, or of some of its steps, cannot be approved. Read-only."""
        looks = [*self.foreseen(digest), *self.dry_run_of_ddl(digest)]
        return self.unwaived(r for r in looks if steps is None or r.evidence.get("step") in steps)

    def require_approvable(self, digest: str, steps: Collection[str] | None = None) -> None:
        """Check that no known result would stop a step later.

        Raises:
            PreconditionError: A precondition fails, or the DDL failed on a schema-only clone.
            UnknownOutcome: None fails, but one could not be looked at.
        """
        if bad := self.obstacles(digest, steps):
            raise approval.refusal(digest, bad, str(self.folder.path))

    def approve(self, digest: str, by: str, steps: Collection[str] | None = None) -> None:
        """Record the approval of the previews of `digest`; if `steps` are given, of those only.

        Raises:
            Declined: No preview of this run has that digest, or the target has drifted from it.
            PreconditionError: A precondition fails, or the DDL failed on a schema-only clone.
            UnknownOutcome: A precondition could not be looked at, or the DDL could not be tried.
        """
        state = self.state
        if digest not in state.previews:
            raise Declined(
                f"No preview of this run has the digest {digest!r}.",
                where=str(self.folder.path),
                state="Nothing was changed.",
                safe_next="Read the preview, then approve the digest below it.",
            )
        for known in dict.fromkeys([digest, state.previewed]):  # the latest one has the newest results
            self.require_approvable(known, steps)
        for title, lines in self.drifted(digest).items():
            raise Declined(
                f"{title} has drifted since its preview: {'; '.join(lines)}.",
                where=str(self.folder.path),
                state="Nothing was changed.",
                safe_next="Preview again, read the preview, and approve it.",
            )
        if state.approved != digest:
            self.journal.append("approved", digest=digest, by=by)
        self.refresh()

    def drifted(self, digest: str) -> dict[str, list[str]]:
        """Return the steps not begun yet that differ from their preview: title -> differences. Read-only."""
        state, tolerance = self.state, self.context.plan.drift_tolerance
        found = {}
        for name, approved in state.previews.get(digest, {}).items():
            step, status = self.steps.get(name), state.step(name).status
            tried = status in ("started", "failed") and step is not None and step.probe().effect is Effect.NOT_DONE
            if (
                step
                and (status in ("pending", "undone") or tried)
                and (lines := approval.drift(approved, step.preview(), tolerance))
            ):
                found[step.title] = lines
        return found

    def is_still_approved(self) -> bool:
        """Check whether the approval covers the remaining steps: no step acted since, or nothing drifted. Read-only."""
        approved = self.state.approved
        kinds = [event.kind for event in self.journal.events()]
        since = kinds[len(kinds) - kinds[::-1].index("approved") :] if approved else []
        return bool(approved) and not ({"applied", "failed"} & {*since} and self.drifted(approved))

    def escalation(self) -> str:
        """Return the type to escalate to after the latest checks, "" if this one was sufficient."""
        plan = self.context.plan
        spec = plan.types[self.context.type]
        failed = [
            result.name
            for result in self.recorded("after")
            if result.name in spec.escalates_on
            and result.status is Status.FAIL
            and not plan.was_there_before(result.name, result.findings)
        ]
        return spec.escalates_to if failed and spec.escalates_to and self._has_more_to_do(spec.escalates_to) else ""

    def escalate(self) -> str:
        """Escalate to the plan's next type in the same run, keeping finished steps; returns its name."""
        to, spec = self.escalation(), self.context.plan.types[self.context.type]
        after = self.state.checks["after"]
        because = "; ".join(f"{n}: {after[n]['summary']}" for n in spec.escalates_on if after[n]["status"] == Status.FAIL)
        return self.go_on_as(to, because)

    def go_on_as(self, to: str, because: str) -> str:
        """Continue as another type in the same run, keeping finished steps; returns its name."""
        self.journal.append("escalated", **{"from": self.context.type, "to": to, "because": because})
        self._settle_option("escalation")
        return to

    def record(self, round_name: str, results: Iterable[Result]) -> list[Result]:
        """Journal the results of checks, and return them."""
        kept = list(results)
        if kept:
            self.journal.append_all([("checked", {"round": round_name, **asdict(result)}) for result in kept])
        return kept

    def recorded(self, round_name: str) -> list[Result]:
        """Return the journaled results of a round. Read-only."""
        found = self.state.checks.get(round_name, {}).values()
        return [Result(r["name"], r["title"], Status(r["status"]), r["summary"], r["evidence"]) for r in found]

    def unwaived(self, results: Iterable[Result]) -> list[Result]:
        """Return the results that are neither PASS nor waived; a step's waiver covers its preconditions. Read-only."""
        waived = self.state.waivers
        return [
            r
            for r in not_passed(results)
            if r.name not in waived and not (r.evidence.get("waivable") and r.evidence["step"] in waived)
        ]

    def require(self, results: list[Result]) -> list[Result]:
        """Return the results if each is PASS or waived by name.

        Raises:
            PreconditionError: One failed.
            UnknownOutcome: None failed, but one is unknown.
        """
        if bad := self.unwaived(results):
            kind = PreconditionError if verdict(bad) is Status.FAIL else UnknownOutcome
            raise kind(
                "Not positively verified: " + "; ".join(f"{r.title} ({r.name}): {r.status}, {r.summary}" for r in bad),
                where=str(self.folder.path),
                state="No further step was begun. The journal shows what was done.",
                safe_next="Fix each cause; then repeat the command, or run the cell again: no finished step is repeated."
                + (f" Or continue without, for a reason: --waive '{bad[0].name}: REASON'." if self._may_waive(bad) else ""),
            )
        return results

    def _may_waive(self, results: Sequence[Result]) -> bool:
        """Check whether to suggest a waiver: only for an UNKNOWN result, never for a FAIL. Pure."""
        names = self.waivable()
        return verdict(results) is Status.UNKNOWN and all(result.name in names for result in results)

    def require_open(self) -> None:
        """Check that nobody has ended the run permanently, or undone all of it. Read-only.

        Raises:
            PreconditionError: Somebody has.
        """
        if ended := self.state.ended:
            raise PreconditionError(
                f"This run was ended by {ended['by'] or 'nobody named'}: {ended['reason']}",
                where=str(self.folder.path),
                state="Nothing was changed.",
                safe_next="Begin a new run with `runbook plan`; it finds steps that are done already. `runbook undo` undoes "
                "this one.",
            )

        if self.state.is_undone:
            raise PreconditionError(
                "This run was undone completely. Its previews and approval are no longer valid.",
                where=str(self.folder.path),
                state="Nothing was changed.",
                safe_next=f"Plan a new run: {self.planned_again()}",
            )

    def planned_again(self) -> str:
        """Return the command that plans a run with the same plan, target and choices. Read-only."""
        opened, state = self.state.opened, self.state
        chosen = ", ".join(f"{name}={value}" for name, value in state.choices.items() if name in self.details())
        options = {
            "plan": opened["plan_file"],
            "target": opened["target_file"],
            "type": state.type,
            "option": state.option if self.context.plan.types[state.type].options else "",
            "choose": chosen,
            **{name: str(opened[name]) for name in ("operator", "reason", "incident")},
        }
        return shlex.join(["runbook", "plan", *(word for n, v in options.items() if v for word in (f"--{n}", v))])

    def close_adapters(self) -> None:
        """Close this process's connections and browsers."""
        self.context.adapters.close()

    def _has_more_to_do(self, type_name: str) -> bool:
        """Check whether a type has an unfinished step in this run, with the option it would then use. Read-only."""
        plan, state = self.context.plan, self.state
        options = list(plan.types[type_name].options)
        option = state.option if not options or state.option in options else options[0]
        return not all(state.step(name).is_done for name in plan.steps_of(type_name, option))

    def _settle_option(self, by: str) -> None:
        """Choose the type's first option if it lacks the chosen one."""
        state = self.refresh()
        options = list(self.context.plan.types[state.type].options) if state.type else []
        if options and state.option not in options:
            self.journal.append("chosen", name="OPTION", value=options[0], by=by)
            self.refresh()

    def _looks_before(self) -> list[str]:
        state, plan = self.state, self.context.plan
        if not state.type or state.steps or BEFORE in state.checks:
            return []
        return [name for name in plan.types[state.type].checks if plan.checks[name].kind.startswith("page")]

    def _check_context(self, name: str) -> CheckContext:
        return CheckContext(self.context, name, self._logs_since(), self._verified_steps(), self._started())

    def _logs_since(self) -> datetime:
        return min(event.time for event in self.journal.events()) - timedelta(seconds=LOG_SECONDS)

    def _started(self) -> dict[str, datetime]:
        """Return service -> when this run last began to start it; earlier if the clock was set back since."""
        specs, events = self.context.plan.steps, self.journal.events()
        earliest = list(accumulate((event.time for event in reversed(events)), min))[::-1]
        begun = [(at, specs.get(e.data["step"])) for at, e in zip(earliest, events, strict=True) if e.kind == "started"]
        return {
            service: at
            for at, spec in begun
            if isinstance(spec, ServicesStep) and spec.about.starts
            for service in spec.services
        }

    def _verified_steps(self) -> dict[str, list[Result]]:
        rounds = [name for name in self.state.checks if name.startswith("step:")]
        return {name.removeprefix("step:"): self.recorded(name) for name in rounds}


def explain(error: BaseException) -> str:
    """Format an error for the journal."""
    return str(error) if isinstance(error, RunbookError) else f"{type(error).__name__}: {error}"
