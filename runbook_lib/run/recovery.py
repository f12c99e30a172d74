"""Service back now: preview, approve and walk the nearest recovery path to services in an allowed combination."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runbook_lib.config.compatibility import StepEffect
from runbook_lib.errors import Declined, PreconditionError, RunbookError
from runbook_lib.run import Run, approval, cleanup, engine, lifecycle, recovery_path
from runbook_lib.run.engine import Done
from runbook_lib.run.lifecycle import Outcome
from runbook_lib.run.recovery_path import RecoveryPath
from runbook_lib.steps import Effect, Preview

ROUND = "service-back"


@dataclass(frozen=True)
class Offer:
    """A recovery path, its digest for an approval, and previews of its steps that are not approved yet."""

    digest: str
    way: RecoveryPath
    previewed: str = ""  # the digest of its previews, "" if the run's approval covers its steps
    previews: Sequence[Preview] = ()


def recover(run: Run, *, look: bool = False, failing: Mapping[tuple[str, str], str] = recovery_path.NONE) -> RecoveryPath:
    """Return the nearest recovery path to services in an allowed combination, without steps that failed last. Read-only.

    Args:
        look: Whether to probe steps without a known outcome; if not, they count both as done and as not done.
        failing: Further actions that would fail: action and step -> why.
    """
    state = run.state
    standing = recovery_path.effects_of(state)
    if look:
        standing = [known for one in standing if (known := _looked_at(run, one))]
    return recovery_path.shortest(
        recovery_path.rules_of(run.context), standing, list(run.steps), {**state.failing, **failing}
    )


def offer(run: Run) -> Offer:
    """Return the recovery path, with previews of its steps if the run's approval does not cover them.

    Read-only, except for cleanup of a killed process that is due immediately.

    Raises:
        PreconditionError: There is no recovery path.
    """
    cleanup.clean_up_due(run)
    state = run.refresh()
    failing: dict[tuple[str, str], str] = {}
    while True:
        way = recover(run, look=True, failing=failing)
        if way.blocked:
            raise _none_left(run, way)
        ahead = [move.step for move in way.moves if move.action == "apply"]
        covered = set(ahead) <= set(state.previews.get(state.approved, {})) and (not ahead or run.is_still_approved())
        previewed, previews = ("", []) if covered else run.previews()
        bad = run.obstacles(previewed, ahead) if previewed else []
        if not bad:
            break
        failing |= {("apply", result.evidence["step"]): result.summary for result in bad}
    named = {f"{n} {move.action} {move.step}": {"previewed": previewed} for n, move in enumerate(way.moves)}
    return Offer(approval.digest(named), way, previewed, [p for p in previews if p.step in ahead])


def walk(run: Run, offered: Offer, approved: str) -> tuple[list[Done], Outcome]:
    """Walk the recovery path, check that every service runs, and record the outcome. Changes the target.

    Raises:
        Declined: The approved digest is not the offer's.
        StepFailed: A step on the path failed.
        PreconditionError: A service does not run as it should at the end.
    """
    if offered.digest != approved:
        raise Declined(
            f"The recovery path is {offered.digest} now, but {approved!r} was approved.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next="Read the recovery path, then approve its digest.",
        )
    moves = [[move.action, move.step] for move in offered.way.moves]
    run.journal.append("service-back", digest=offered.digest, moves=moves, by=run.context.operator)
    if offered.previewed:
        ahead = [move.step for move in offered.way.moves if move.action == "apply"]
        run.approve(offered.previewed, run.context.operator, ahead)
    acts = {"apply": engine.apply, "undo": engine.undo}
    done = [acts[move.action](run, move.step) for move in offered.way.moves]
    services = [name for name, check in run.context.plan.checks.items() if check.of_recovery]
    run.require(run.observe(ROUND, services))
    run.journal.append("served", services=run.context.plan.services)
    return done, lifecycle.close(run)


def _none_left(run: Run, way: RecoveryPath) -> PreconditionError:
    """Make the error that no recovery path is left, with the remedy by hand."""
    contacts = "; ".join(f"{role}: {contact}" for role, contact in run.context.target.contacts.items())
    return PreconditionError(
        f"No recovery path is left: {way.blocked}.",
        where=str(run.folder.path),
        state="The search changed nothing. Some services are down.",
        safe_next=f"A person must fix one of these causes by hand, then resume the run. Contacts: {contacts}",
    )


def _looked_at(run: Run, one: StepEffect) -> StepEffect | None:
    """Return a step's effect, probed if the journal does not know it; None without an effect."""
    step = run.steps.get(one.step)
    if one.whole or step is None:
        return one
    try:
        effect = step.probe().effect
    except RunbookError:
        return one
    return None if effect is Effect.NOT_DONE else replace(one, whole=effect is Effect.DONE)
