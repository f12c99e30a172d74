"""Service back now: the nearest way to services that run in an allowed combination, previewed, approved and walked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runbook_lib import approval, closing, loop, ways
from runbook_lib.closing import Outcome
from runbook_lib.compatibility import Standing
from runbook_lib.errors import Declined, PreconditionError, RunbookError
from runbook_lib.loop import Done
from runbook_lib.run import Run
from runbook_lib.steps.base import Effect, Preview
from runbook_lib.ways import Way

ROUND = "service-back"


@dataclass(frozen=True)
class Offer:
    """A way, the digest that an approval of it names, and what the steps ahead would do where that is not approved yet."""

    digest: str
    way: Way
    previewed: str = ""  # the digest of the previews that go with it, "" where the run's approval covers its steps
    previews: Sequence[Preview] = ()


def service_back(run: Run, *, look: bool = False) -> Way:
    """The nearest way to services that run in an allowed combination, by the record. Read-only.

    Args:
        look: Whether steps without a known outcome are probed; else what they did counts as done and as not done.
    """
    standing = ways.standing(run.state)
    if look:
        standing = [known for one in standing if (known := _looked_at(run, one))]
    return ways.shortest(ways.rules_of(run.context), standing, list(run.steps))


def offer(run: Run) -> Offer:
    """The way, and a preview of the steps ahead where the run's approval does not cover them. Read-only.

    Raises:
        PreconditionError: There is no way.
    """
    state, way = run.refresh(), service_back(run, look=True)
    if way.blocked:
        raise PreconditionError(
            f"No way brings the services back in a combination that the plan allows: {way.blocked}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next="Mend what is in the way by hand; then look again.",
        )
    ahead = [move.step for move in way.moves if move.action == "apply"]
    covered = set(ahead) <= set(state.previews.get(state.approved, {})) and (not ahead or run.is_still_approved())
    previewed, previews = ("", []) if covered else run.previews()
    named = {f"{n} {move.action} {move.step}": {"previewed": previewed} for n, move in enumerate(way.moves)}
    return Offer(approval.digest(named), way, previewed, [p for p in previews if p.step in ahead])


def walk(run: Run, offered: Offer, approved: str) -> tuple[list[Done], Outcome]:
    """Walk the way through the step loop, see that every service runs, and record that as the outcome. Changes the target.

    Raises:
        Declined: The digest approved is not the offer's.
        StepFailed: A step on the way did not end as it should.
        PreconditionError: A service does not run as it should at the end.
    """
    if offered.digest != approved:
        raise Declined(
            f"The way back is {offered.digest} now, and {approved!r} was approved.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next="Read the way, then approve its digest.",
        )
    moves = [[move.action, move.step] for move in offered.way.moves]
    run.journal.append("service-back", digest=offered.digest, moves=moves, by=run.context.operator)
    if offered.previewed:
        run.approve(offered.previewed, run.context.operator)
    acts = {"apply": loop.apply, "undo": loop.undo}
    done = [acts[move.action](run, move.step) for move in offered.way.moves]
    services = [name for name, check in run.context.plan.checks.items() if check.kind == "services"]
    run.require(run.observe(ROUND, services))
    run.journal.append("served", services=run.context.plan.services)
    return done, closing.close(run)


def _looked_at(run: Run, one: Standing) -> Standing | None:
    """A step with what its probe says of it where the record does not know; None where nothing of it is there."""
    step = run.steps.get(one.step)
    if one.whole or step is None:
        return one
    try:
        effect = step.probe().effect
    except RunbookError:
        return one
    return None if effect is Effect.NOT_DONE else replace(one, whole=effect is Effect.DONE)
