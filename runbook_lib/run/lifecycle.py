"""The life of a run: begun, resumed where it was left, judged by its checklist, closed with an outcome and an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runbook_lib import checks
from runbook_lib.config.loading import ROOT, located
from runbook_lib.config.plan import Plan
from runbook_lib.config.target import pair
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
) -> Run:
    """Begin a run: read plan and target, make its folder, journal who, what and why.

    Raises:
        ParametersError: Anything about the plan, the target or the parameters is wrong; no folder was made.
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
    """A run's folder, its plan and its state by the journal, without its target. Read-only.

    Raises:
        ParametersError: The folder holds no run.
    """
    folder = RunFolder.open(located(path))
    state = replay(Journal(folder.journal_path).events())
    return folder, load_plan(recorded(state.opened["plan_file"])), state


def open_existing(path: Path, operator: str = "") -> Run:
    """Take up a run in its folder, where it was left.

    Raises:
        ParametersError: The folder holds no run, or its target does not fit its plan.
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
    """Make sure that a run's plan is as it was when the run began. Read-only.

    Raises:
        PreconditionError: It has changed.
    """
    plan_file = recorded(state.opened["plan_file"])
    if digest(plan_file) != state.opened["plan_sha256"]:
        raise PreconditionError(
            "The plan has changed since this run began.",
            where=str(plan_file),
            state="Nothing was touched by this process.",
            safe_next="Put the plan back as it was, or begin a new run, which finds what is done already.",
        )


def recorded(name: str) -> Path:
    """The file that a journal names, wherever this process runs: relative names are below the project. Pure."""
    return ROOT / name


def _portable(path: Path) -> str:
    """A path below the project as it is from there, so that the journal can be read on another machine."""
    full = located(path).resolve()
    return str(full.relative_to(ROOT)) if full.is_relative_to(ROOT) else str(full)


EXIT_CODES = {"verified": 0, "declined": 1, "failed": 3, "waived": 4, "service-back": 4, "unknown": 4, "escalated": 4} | {
    "undone": 0,
    "ended": 4,
}
ENDED_WELL = ("verified", "waived", "service-back", "escalated")  # as far as they were to go
GOES_ON = "`runbook run` with this run folder goes on from here, and 08-service-back looks for a way back again"


@dataclass(frozen=True)
class Outcome:
    """How a run ended, in a word, an exit code and a sentence."""

    status: str
    summary: str

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends so."""
        return EXIT_CODES[self.status]


def verify(run: Run) -> list[Result]:
    """Make every check of the rollback type's checklist that applies here; what does not is journaled. Read-only.

    Where a run has ended, the result of a check that cannot be made again stays.
    """
    names = run.context.plan.types[run.context.type].checks
    left_out = {name: why for name in names if (why := checks.does_not_apply(run.context, name))}
    for name, why in left_out.items():
        if run.state.left_out.get(name) != why:
            run.journal.append("left-out", name=name, reason=why)
    stay = [name for name in run.state.checks.get("after", {}) if name in names and checks.is_final(run.context, name)]
    return run.observe("after", [name for name in names if name not in (*left_out, *stay)])


def judge(plan: Plan, state: RunState) -> Outcome:
    """What the record of a run adds up to; only positively verified is success. Pure."""
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
            return Outcome(
                "unknown", f"done by hand, by what people recorded, and not seen by the runbook: {', '.join(undone)}"
            )
        unknown = [name for name in undone if state.step(name).status == "started"]
        what = f"not done: {', '.join(undone)}"
        if state.served:
            back = "every service runs again in a combination that the plan allows, and the rollback is not finished"
            return Outcome("service-back", f"{back}; {what}. Next: {GOES_ON}")
        return Outcome("unknown", f"{what}; unknown: {', '.join(unknown)}") if unknown else Outcome("failed", what)
    found = {name: state.checks.get("after", {}).get(name, {}).get("status") for name in state.due(spec.checks)}
    failed = [name for name, status in found.items() if status == Status.FAIL]
    unknown = [name for name, status in found.items() if status not in (Status.PASS, Status.FAIL)]
    waived = [name for name in [*failed, *unknown] if name in state.waivers]
    if [name for name in failed if name not in waived]:
        said = [f"{plan.checks[name].title} ({name}): {found[name] or 'not made'}" for name in [*failed, *unknown]]
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
    """Journal the outcome, by the record where none is given, and give the target back where nothing is left to finish."""
    ended = outcome or judge(run.context.plan, run.state)
    run.journal.append("outcome", status=ended.status, exit_code=ended.exit_code, summary=ended.summary)
    let_go(run)
    if ended.status in profiles.FINAL:
        run.context.adapters.close_browser()
        profiles.remove(run.folder.path)
    return ended


def end(run: Run, reason: str) -> Outcome:
    """End a run that nobody will finish, for a reason that stays on record, and give its lease back.

    Changes the target's lease row only.

    Raises:
        ParametersError: The reason says nothing.
        PreconditionError: The run has ended, or a process acts in it now.
        AdapterError: The server cannot be reached, so the lease could not be given back; the run goes on.
    """
    require_reason(reason, "The reason for ending the run", "The run was not ended.")
    run.require_open()
    with run.folder.lock():
        give_back(run)
        run.journal.append("ended", reason=reason, by=run.context.operator)
        return close(run)


def notebook_of(plan: Plan, type_name: str) -> str:
    """The name of the notebook that walks a type: the one that the plan gives, else the type's own. Pure."""
    return plan.types[type_name].notebook or type_name


def _left_by(state: RunState) -> str:
    """What a run that was ended leaves on the target, in a sentence."""
    done = [name for name, step in state.steps.items() if step.begun_here]
    by = f"ended by {state.ended['by'] or 'nobody named'}: {state.ended['reason']}"
    left = f"it leaves {len(done)} steps as they are: {', '.join(done)}" if done else "it leaves no step on the target"
    pending = f"; pending cleanup: {', '.join(state.pending)}" if state.pending else ""
    return f"{by.rstrip('.')}; {left}{pending}"


def write_archive(run: Run) -> None:
    """Write log, report and manifest of a run as it stands now."""
    archive(run.folder, run.context.plan)


def archive(folder: RunFolder, plan: Plan) -> None:
    """Write log, report and manifest of a run's folder by its journal; its target is not needed."""
    from runbook_lib import report

    journaled = Journal(folder.journal_path).events()
    events, state = [event for event in journaled if event.kind != report.SEALED], replay(journaled)
    report.write_log(folder, plan, state, events)
    report.write_report(folder, plan, state, events)
    report.seal(folder)


def is_sealed(run: Run) -> bool:
    """Whether the run was sealed and is as it was then. Read-only."""
    from runbook_lib import report

    return not report.verify(run.folder.path)


def seal_again(run: Run) -> None:
    """Write the archive again where a run has gone on since it was sealed, unless another process acts in it."""
    if not run.folder.held_by() and not is_sealed(run):
        write_archive(run)
