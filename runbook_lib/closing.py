"""The end of a run: the checklist, the outcome that follows from it, and the archive."""

from dataclasses import dataclass

from runbook_lib import checks
from runbook_lib.leasing import let_go
from runbook_lib.plan import Plan
from runbook_lib.results import Result, Status
from runbook_lib.run import Run
from runbook_lib.state import RunState

EXIT_CODES = {"verified": 0, "declined": 1, "failed": 3, "waived": 4, "service-back": 4, "unknown": 4, "escalated": 4}
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
    """Make every check of the rollback type's checklist that applies here; what does not is journaled. Read-only."""
    names = run.context.plan.types[run.context.type].checks
    left_out = {name: why for name in names if (why := checks.does_not_apply(run.context, name))}
    for name, why in left_out.items():
        if run.state.left_out.get(name) != why:
            run.journal.append("left-out", name=name, reason=why)
    return run.observe("after", [name for name in names if name not in left_out])


def judge(plan: Plan, state: RunState) -> Outcome:
    """What the record of a run adds up to; only positively verified is success. Pure."""
    if state.escalations and state.escalations[-1]["to"] == state.type and not state.begun_since:
        last = state.escalations[-1]
        return Outcome("escalated", f"{plan.types[last['from']].title} was not enough: {last['because']}")
    if not state.approved and not state.steps:
        return Outcome("declined", "Nothing was approved, and nothing was done.")
    spec = plan.types[state.type]
    steps = plan.steps_of(state.type, state.option)
    undone = [
        name
        for name in steps
        if not state.step(name).is_done and (name not in state.waivers or state.step(name).status == "started")
    ]
    if undone:
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
        return Outcome("failed", f"failed: {', '.join(failed)}")
    if waived != [*failed, *unknown] or not all(found[name] for name in waived):
        text = f"not positively verified: {', '.join([*failed, *unknown])}"
        return Outcome("unknown", text + (f" (waived: {', '.join(waived)})" if waived else ""))
    first = {**state.checks.get("prerequisites", {}), **state.checks.get(f"clone:{state.approved}", {})}
    gone_on = [name for name, result in first.items() if result["status"] != Status.PASS and name in state.waivers]
    without = [name for name in steps if not state.step(name).is_done]
    text = f"{_of(len(steps), without)} steps done, {_of(len(found), waived)} checks passed"
    text += "".join(f"; {name} was left out: {why}" for name, why in state.left_out.items())
    if left := [*gone_on, *without, *waived]:
        return Outcome("waived", f"{text}; waived, which is not passed: {', '.join(left)}")
    return Outcome("verified", text)


def _of(count: int, but: list[str]) -> str:
    return f"{count - len(but)} of {count}" if but else f"all {count}"


def close(run: Run, outcome: Outcome | None = None) -> Outcome:
    """Journal the outcome, by the record where none is given, and give the target back where nothing is left to finish."""
    ended = outcome or judge(run.context.plan, run.state)
    run.journal.append("outcome", status=ended.status, exit_code=ended.exit_code, summary=ended.summary)
    let_go(run)
    return ended


def write_archive(run: Run) -> None:
    """Write log, report and manifest of a run as it stands now."""
    from runbook_lib import archive

    events, state = run.journal.events(), run.state
    archive.write_log(run.folder, run.context.plan, state, events)
    archive.write_report(run.folder, run.context.plan, state, events)
    archive.seal(run.folder)
