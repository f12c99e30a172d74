"""The life of a run: begin, resume, judge by its checklist, close with an outcome and an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runbook_lib import checks
from runbook_lib.config.loading import ROOT, located
from runbook_lib.config.plan import Plan
from runbook_lib.config.target import pair, require_within_schema
from runbook_lib.context import Context, profiles
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import digest, load_plan, load_target
from runbook_lib.errors import ParametersError, PreconditionError
from runbook_lib.journal import VERSION, Journal, elapsed
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState, replay
from runbook_lib.redaction import register_environment
from runbook_lib.results import Result, Status
from runbook_lib.run import Run
from runbook_lib.run.approval import require_reason
from runbook_lib.run.lease import give_back, let_go
from runbook_lib.system import temporary


def open_new(
    plan_file: Path,
    target_file: Path,
    type_name: str,
    *,
    option: str = "A",
    operator: str = "",
    reason: str = "",
    incident: str = "",
    outputs: Path = ROOT / "outputs",
    fleet: str = "",
) -> Run:
    """Begin a run, by itself or for the named fleet: read plan and target, create its folder, journal who, what and why.

    Raises:
        ParametersError: The plan, the target or a parameter is wrong; no folder was created.
    """
    register_environment()
    plan, target = load_plan(plan_file), load_target(target_file)
    pair(plan, target, target_file)
    carried_out = plan.carried_out(type_name) if type_name else ""
    options = list(plan.types[carried_out].options) if carried_out else []
    if options and option not in options:
        raise ParametersError(
            f"The rollback type {carried_out} has no option {option!r}.",
            where=str(plan_file),
            state="Nothing was touched.",
            safe_next=f"Choose one of: {', '.join(options)}.",
        )
    if carried_out and plan.types[carried_out].in_fleet and not fleet:
        raise ParametersError(
            f"Only a fleet walks the rollback type {carried_out}, next to another one that takes the rest back.",
            where=str(plan_file),
            state="Nothing was touched.",
            safe_next="Use `runbook fleet plan FILE`, or another type.",
        )
    require_within_schema(plan, target, carried_out, option)
    if target.is_production and not (operator and reason):
        raise ParametersError(
            "A run on production needs the operator's name and a reason.",
            where=f"target {target.name}",
            state="Nothing was touched.",
            safe_next="Fill in OPERATOR and REASON.",
        )
    folder = RunFolder.create(outputs, incident, carried_out or "triage")
    Journal(folder.journal_path).append(
        "opened",
        version=VERSION,
        plan=plan.feature,
        plan_file=_portable(plan_file),
        plan_sha256=digest(plan_file),
        target=target.name,
        target_file=_portable(target_file),
        environment=target.environment,
        type=carried_out,
        option=option,
        operator=operator,
        reason=reason,
        incident=incident,
        clock=elapsed.here(),
    )
    return open_existing(folder.path)


def read(path: Path) -> tuple[RunFolder, Plan, RunState]:
    """Read a run's folder, plan and journaled state, without its target. Read-only.

    Raises:
        ParametersError: The folder has no run.
    """
    folder = RunFolder.open(located(path))
    state = replay(Journal(folder.journal_path).events())
    return folder, load_plan(recorded(state.opened["plan_file"])), state


def open_existing(path: Path, operator: str = "") -> Run:
    """Open an existing run in its folder.

    Raises:
        ParametersError: The folder has no run, or its target does not fit its plan.
        PreconditionError: The plan has changed since the run began.
    """
    register_environment()
    temporary.sweep()
    profiles.sweep()
    folder, plan, state = read(path)
    require_same_plan(state)
    target_file = recorded(state.opened["target_file"])
    target = load_target(target_file)
    pair(plan, target, target_file)
    by = operator or state.operator
    return Run(folder, Context(plan, target, folder, Adapters(target, folder, by), state, by))


def require_same_plan(state: RunState) -> None:
    """Check that a run's plan has not changed since the run began. Read-only.

    Raises:
        PreconditionError: It has changed.
    """
    plan_file = recorded(state.opened["plan_file"])
    if digest(plan_file) != state.opened["plan_sha256"]:
        raise PreconditionError(
            "The plan has changed since this run began.",
            where=str(plan_file),
            state="Nothing was touched by this process.",
            safe_next="Restore the plan, or begin a new run, which finds steps that are done already.",
        )


def recorded(name: str) -> Path:
    """Return the path of a file in a journal; relative names are below the project, wherever this process runs. Pure."""
    return ROOT / name


def _portable(path: Path) -> str:
    """Return a path below the project as a relative one, so that the journal can be read on another machine."""
    full = located(path).resolve()
    return str(full.relative_to(ROOT)) if full.is_relative_to(ROOT) else str(full)


EXIT_CODES = {"verified": 0, "declined": 1, "failed": 3, "waived": 4, "service-back": 4, "unknown": 4, "escalated": 4} | {
    "undone": 0,
    "ended": 4,
}
ENDED_WELL = ("verified", "waived", "service-back", "escalated")  # outcomes without an error
GOES_ON = "`runbook run` with this run folder resumes here, and 08-service-back looks for a recovery path again"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: a word, an exit code and a sentence."""

    status: str
    summary: str

    @property
    def exit_code(self) -> int:
        """The exit code of a command with this outcome."""
        return EXIT_CODES[self.status]


def verify(run: Run) -> list[Result]:
    """Run every check of the type's checklist that applies here, and journal the others. Read-only.

    After the run has ended, a check that cannot run again keeps its result.
    """
    names = run.context.plan.types[run.context.type].checks
    left_out = {name: why for name in names if (why := checks.does_not_apply(run.context, name))}
    for name, why in left_out.items():
        if run.state.left_out.get(name) != why:
            run.journal.append("left-out", name=name, reason=why)
    stay = [name for name in run.state.checks.get("after", {}) if name in names and checks.is_final(run.context, name)]
    return run.observe("after", [name for name in names if name not in (*left_out, *stay)])


def judge(plan: Plan, state: RunState) -> Outcome:
    """Judge a run from its state; only positively verified is success. Pure."""
    if state.ended:
        return Outcome("ended", _left_by(state))
    if state.escalations and state.escalations[-1]["to"] == state.type and not state.begun_since:
        last = state.escalations[-1]
        return Outcome("escalated", f"{plan.types[last['from']].title} was not enough: {last['because']}")
    if not (state.approved or state.steps or state.by_hand):
        return Outcome("declined", "Nothing was approved, and nothing was done.")
    spec = plan.types[state.type]
    steps = plan.steps_of(state.type, state.option)
    undone = [
        name
        for name in steps
        if not state.step(name).is_done and (name not in state.waivers or state.step(name).status == "started")
    ]
    if undone:
        if set(undone) <= set(state.said_done):
            return Outcome("unknown", f"recorded as done by hand, and not seen by the runbook: {', '.join(undone)}")
        unknown = [name for name in undone if state.step(name).status == "started"]
        what = f"not done: {', '.join(undone)}"
        if state.served:
            back = "every service runs again in a combination that the plan allows, but the rollback is not finished"
            return Outcome("service-back", f"{back}; {what}. Next: {GOES_ON}")
        return Outcome("unknown", f"{what}; unknown: {', '.join(unknown)}") if unknown else Outcome("failed", what)
    found = {name: state.checks.get("after", {}).get(name, {}).get("status") for name in state.due(spec.checks)}
    failed = [name for name, status in found.items() if status == Status.FAIL]
    unknown = [name for name, status in found.items() if status not in (Status.PASS, Status.FAIL)]
    waived = [name for name in [*failed, *unknown] if name in state.waivers]
    if [name for name in failed if name not in waived]:
        said = [f"{plan.checks[name].title} ({name}): {found[name] or 'not run'}" for name in [*failed, *unknown]]
        return Outcome("failed", "; ".join(said))
    if waived != [*failed, *unknown] or not all(found[name] for name in waived):
        text = f"not positively verified: {', '.join([*failed, *unknown])}"
        return Outcome("unknown", text + (f" (waived: {', '.join(waived)})" if waived else ""))
    rounds = ("prerequisites", f"foreseen:{state.approved}", f"clone:{state.approved}")
    first = {name: result for of in rounds for name, result in state.checks.get(of, {}).items()}
    gone_on = [name for name, result in first.items() if result["status"] != Status.PASS and name in state.waivers]
    without = [name for name in steps if not state.step(name).is_done]
    text = f"{_of(len(steps), without)} steps done, {_of(len(found), waived)} checks passed"
    text += "".join(f"; {name} was left out: {why}" for name, why in state.left_out.items())
    if left := [*gone_on, *without, *waived]:
        return Outcome("waived", f"{text}; waived (not counted as passed): {', '.join(left)}")
    return Outcome("verified", text)


def _of(count: int, but: list[str]) -> str:
    return f"{count - len(but)} of {count}" if but else f"all {count}"


def close(run: Run, outcome: Outcome | None = None) -> Outcome:
    """Journal the outcome, judged from the state by default, and release the target if nothing is left to finish."""
    ended = outcome or judge(run.context.plan, run.state)
    run.journal.append("outcome", status=ended.status, exit_code=ended.exit_code, summary=ended.summary)
    let_go(run)
    if ended.status in profiles.FINAL:
        run.context.adapters.close_browser()
        profiles.remove(run.folder.path)
    return ended


def end(run: Run, reason: str) -> Outcome:
    """End a run that nobody will finish, for a reason that is recorded, and release its lease.

    Changes the target's lease row only.

    Raises:
        ParametersError: The reason is too short.
        PreconditionError: The run has ended, or a process acts in it now.
        AdapterError: The server cannot be reached, so the lease could not be released; the run stays open.
    """
    require_reason(reason, "The reason for ending the run", "The run was not ended.")
    run.require_open()
    with run.folder.lock():
        give_back(run)
        run.journal.append("ended", reason=reason, by=run.context.operator)
        return close(run)


def notebook_of(plan: Plan, type_name: str) -> str:
    """Return the name of a type's notebook: the plan's, else the type's own. Pure."""
    return plan.types[type_name].notebook or type_name


def _left_by(state: RunState) -> str:
    """Describe in a sentence what an ended run leaves on the target."""
    done = [name for name, step in state.steps.items() if step.begun_here]
    by = f"ended by {state.ended['by'] or 'nobody named'}: {state.ended['reason']}"
    left = f"it leaves {len(done)} steps as they are: {', '.join(done)}" if done else "it leaves no step on the target"
    pending = f"; pending cleanup: {', '.join(state.pending)}" if state.pending else ""
    return f"{by.rstrip('.')}; {left}{pending}"


def write_archive(run: Run) -> None:
    """Write log, report and manifest of a run in its current state."""
    archive(run.folder, run.context.plan)


def archive(folder: RunFolder, plan: Plan) -> None:
    """Write log, report and manifest of a run's folder from its journal, without its target."""
    from runbook_lib import report

    journaled = Journal(folder.journal_path).events()
    events, state = [event for event in journaled if event.kind != report.SEALED], replay(journaled)
    report.write_log(folder, plan, state, events)
    report.write_report(folder, plan, state, events)
    report.seal(folder)


def is_sealed(run: Run) -> bool:
    """Check whether the run was sealed and has not changed since. Read-only."""
    from runbook_lib import report

    return not report.verify(run.folder.path)


def seal_again(run: Run) -> None:
    """Write the archive again if the run has changed since it was sealed, unless another process acts in it."""
    if not run.folder.held_by() and not is_sealed(run):
        write_archive(run)
