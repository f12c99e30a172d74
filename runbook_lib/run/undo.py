"""Undo of a whole run, newest step first and restarts last, or of one step: preview, approve a digest, then undo."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runbook_lib.errors import Declined, ParametersError, PreconditionError, RunbookError
from runbook_lib.results import Status, not_passed, verdict
from runbook_lib.run import Run, approval, cleanup, engine, lifecycle, recovery_path
from runbook_lib.run.engine import Done
from runbook_lib.run.lifecycle import Outcome
from runbook_lib.run.recovery_path import to_be_undone_first
from runbook_lib.steps import Preview, step_named

ROUND = "undone"


@dataclass(frozen=True)
class Offer:
    """The previews of an undo, newest step first, its digest for an approval, and the steps that cannot be undone."""

    digest: str
    previews: Sequence[Preview]
    refused: Mapping[str, str]  # step -> why not
    whole: bool

    @property
    def steps(self) -> list[str]:
        """The steps to undo, in order."""
        return [preview.step for preview in self.previews]


def offer(run: Run, step: str = "", approved: str = "") -> Offer:
    """Preview the undo of every step that this run did, or of one.

    Read-only, except for cleanup of a killed process that is due immediately.
    If the undo `approved` has begun or ended, the offer is its rest, even if that is empty.

    Raises:
        ParametersError: The plan has no such step.
        Declined: This run did not do the step, or did nothing.
    """
    cleanup.clean_up_due(run)
    state = run.refresh()
    done = [name for name, known in reversed([*state.steps.items()]) if known.begun_here]
    names = [step] if step else sorted(done, key=lambda name: step_named(run.context, name).UNDONE_LAST)
    if step and step not in run.context.plan.steps:
        raise ParametersError(
            f"The plan has no step {step!r}.",
            state="Nothing was changed.",
            safe_next=f"This run did: {', '.join(reversed(done)) or 'no step'}.",
        )
    if _is_begun(run, approved):
        names = [name for name in names if name in done]
    elif not set(names) <= set(done) or not (done or state.undo):
        what = f"“{run.context.plan.steps[step].title}”" if step else "Any step"
        raise Declined(
            f"{what} was not done by this run, so there is nothing to undo.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"This run did: {', '.join(reversed(done)) or 'no step'}. `runbook status --verbose` shows each.",
        )
    previews = [_preview(run, name) for name in names]
    return Offer(approval.digest(approval.bound(previews)), previews, _refused(run, names, done), not step)


def walk(
    run: Run, offered: Offer, approved: str, heed: Callable[[], object] = lambda: None
) -> tuple[list[Done], Outcome | None]:
    """Undo what was offered, newest first; a whole run ends as `undone`. Changes the target.

    The approval stays valid for the rest, so the same command resumes an interrupted undo, and ends one whose result
    was not received.

    Args:
        run: The run.
        offered: What is undone.
        approved: The digest that was approved.
        heed: Called before each step; an error of it ends the undo there.

    Raises:
        Declined: The approved digest is not the offer's.
        PreconditionError: A step cannot be undone, or a service does not run as it should at the end.
        StepFailed: A step could not be undone.
    """
    begun = _is_begun(run, approved)
    if offered.digest != approved and not begun:
        raise Declined(
            f"The undo is {offered.digest} now, but {approved!r} was approved.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next="Read the preview of the undo, then approve its digest.",
        )
    if offered.refused:
        name, why = next(iter(offered.refused.items()))
        raise PreconditionError(
            f"“{run.context.plan.steps[name].title}” cannot be undone: {why}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Undo the others one by one with --step, or resolve what blocks {name} first.",
        )
    if not begun:
        run.journal.append(
            "undo-approved", digest=approved, steps=offered.steps, whole=offered.whole, by=run.context.operator
        )
    done = []
    for name in offered.steps:
        heed()
        done.append(engine.undo(run, name))
    if not offered.whole:
        return done, None
    return done, lifecycle.close(run, _outcome(run))


def _is_begun(run: Run, approved: str) -> bool:
    """Check whether an undo of that digest was approved, and no step was done since. Read-only."""
    return bool(approved) and approved in (run.state.undo, run.state.undo_ended)


def _preview(run: Run, name: str) -> Preview:
    step, known = step_named(run.context, name), run.state.step(name)
    leaves = _answer(step.undo_leaves)
    return Preview(
        name,
        step.title,
        would=[f"undo it by {_undone_by(run, name)}" + ("" if known.is_done else f" (it is {known.status})")],
        loses=[leaves] if leaves else [],
        estimate=step.spec.estimate,
        facts={"left": dict(known.outcome)},
    )


def _undone_by(run: Run, name: str) -> str:
    """Return how a step is undone, from its latest preview. Read-only."""
    shown = [one for e in run.journal.events() if e.kind == "previewed" for one in e.data["shown"] if one["step"] == name]
    return str(shown[-1]["undone_by"]) if shown else "the undo of its kind"


def _refused(run: Run, names: Sequence[str], done: Sequence[str]) -> dict[str, str]:
    """Return the steps that cannot be undone in that order -> why, known before the first undo. Read-only."""
    rules, standing, left = recovery_path.rules_of(run.context), recovery_path.effects_of(run.state), list(done)
    order = {name: run.context.plan.steps[name] for name in reversed(done)}
    found = {}
    for name in names:
        first = to_be_undone_first(order, name, left)
        outside = recovery_path.refused(rules, standing, name, undo=True)
        why = [
            f"undo first {', '.join(first)}" if first else "",
            _answer(step_named(run.context, name).cannot_undo),
            f"the plan's compatibility table refuses it: {outside}" if outside else "",
        ]
        if any(why):
            found[name] = "; ".join(filter(None, why))
        left.remove(name)
        standing = [one for one in standing if one.step != name]
    return found


def _answer(ask: Callable[[], str]) -> str:
    """Return a step's answer, or the error that prevented it."""
    try:
        return ask()
    except RunbookError as error:
        return f"it cannot be looked at: {error.what}"


def _outcome(run: Run) -> Outcome:
    """Judge a whole undo, after a look at the services. Read-only."""
    services = [name for name, check in run.context.plan.checks.items() if check.of_recovery]
    found = run.observe(ROUND, services)
    undone = {name: step.outcome for name, step in run.state.steps.items() if step.status == "undone"}
    kept = sum(int(left.get("conflicts", 0)) for left in undone.values())
    text = f"all {len(undone)} steps of this run are undone"
    text += f"; {kept} rows that someone changed since keep their values" if kept else ""
    if bad := not_passed(found):
        status = "failed" if verdict(bad) is Status.FAIL else "unknown"
        return Outcome(status, f"{text}, but {'; '.join(f'{r.title}: {r.status}, {r.summary}' for r in bad)}")
    return Outcome("undone", text)
