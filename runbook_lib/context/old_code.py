"""The code without the feature, made in a scratch clone before anything is touched."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp

from runbook_lib.config.plan import Migration, Plan, Repository, RepositoryStep, RevertingStep
from runbook_lib.context import Context
from runbook_lib.context.migration_files import companions, own_files, read
from runbook_lib.errors import PreconditionError, RunbookError, UnknownOutcome
from runbook_lib.git import Checkout, Commit
from runbook_lib.git.command import differences
from runbook_lib.git.obstacle import Lock, locks
from runbook_lib.git.scratch_clone import complete
from runbook_lib.history.commits import make, take_back
from runbook_lib.history.decision import Finding, Status, TakeBack
from runbook_lib.history.looking import KEEPS, Answers


def services_of(plan: Plan, built_from: Mapping[str, str], repository: str, files: Iterable[str]) -> dict[str, str]:
    """Return each service built from some of a repository's files -> the first of these files.

    A service without `paths` in the plan is built from the whole repository; a file in no service's paths belongs to all.
    """
    paths = plan.repositories[repository].paths
    found: dict[str, str] = {}
    for file in files:
        owners = [name for name, places in paths.items() if any(PurePosixPath(file).is_relative_to(p) for p in places)]
        for service in (name for name, of in built_from.items() if of == repository):
            if service in owners or service not in paths or not owners:
                found.setdefault(service, file)
    return found


CLOCK = 1.0  # seconds by which the time of a file and the journal's may differ


def require_ready(context: Context, repository: str) -> str:
    """Check that code can be reverted in a checkout, or that the step can complete an earlier move; returns which.

    Read-only.

    Raises:
        PreconditionError: There is no such work tree, it is dirty or on no branch, or an operation is unfinished.
    """
    own, moving = own_locks(context, repository), moving_to(context, repository)
    left = "" if moving else left_half_way_to(context, repository)
    context.checkout(repository).require_ready(ignoring=[lock.path for lock in own], may_differ=bool(moving or left))
    if moving:
        return f"half-way to {moving[:12]}, which the step completes"
    if left:
        return f"left half-way to {left[:12]} by the run taken over, which the step puts back first"
    return f"with {', '.join(lock.path.name for lock in own)} of this run, which the step removes" if own else ""


def left_half_way_to(context: Context, repository: str) -> str:
    """Return the commit to which a run taken over was moving a checkout of this run, "" for none. Read-only."""
    reverted = [spec.repository for spec in context.specs.values() if isinstance(spec, RevertingStep)]
    moves = [move for move in context.state.adopted if move["repository"] == repository and repository in reverted]
    checkout = context.checkout(repository)
    head = checkout.head() if moves else ""
    return next((m["commit"] for m in moves if head == m["head"] and checkout.half_way_to(m["commit"])), "")


def put_back(context: Context, repository: str) -> None:
    """Reset a checkout to its branch if a run taken over left it half moved. Changes the checkout."""
    if left := left_half_way_to(context, repository):
        checkout = context.checkout(repository)
        checkout.end_move_to(checkout.head())
        context.reporter.append(
            "noted", text=f"Put {repository} back: the run taken over had left it half-way to {left[:12]}"
        )


def moving_to(context: Context, repository: str) -> str:
    """Return the commit to which this run was moving the checkout when it was killed, "" for none. Read-only."""
    moves: list[tuple[str, str]] = []
    for name, spec in context.plan.steps.items():
        if isinstance(spec, RevertingStep) and spec.repository == repository:
            approved, left = context.state.approved_facts(name), context.state.step(name).outcome
            moves += [(approved["head"], approved["commit"])] if "head" in approved else []
            moves += [(left["commit"], left["before"])] if "before" in left else []
    checkout = context.checkout(repository)
    head = checkout.head() if moves else ""
    return next((end for start, end in moves if head == start and checkout.half_way_to(end)), "")


def own_locks(context: Context, repository: str) -> list[Lock]:
    """Return the lock files of a killed git of this run, or of one taken over, from an unfinished step. Read-only."""
    steps = context.plan.steps
    tries = [
        times
        for name, times in context.begun.items()
        if isinstance(spec := steps.get(name), RepositoryStep) and spec.repository == repository
    ]
    adopted = [move for move in context.state.adopted if move["repository"] == repository]
    tries += [(datetime.fromisoformat(move["began"]), datetime.fromisoformat(move["until"])) for move in adopted]
    if not tries:
        return []

    def is_own(lock: Lock) -> bool:
        return not lock.owners and any(a.timestamp() - CLOCK <= lock.made <= b.timestamp() + CLOCK for a, b in tries)

    return [lock for lock in locks(context.checkout(repository).git) if is_own(lock)]


def remove_own_locks(context: Context, repository: str) -> None:
    """Remove these lock files, and journal each. Changes the checkout's git directory."""
    for lock in own_locks(context, repository):
        lock.path.unlink(missing_ok=True)
        context.reporter.append("noted", text=f"Removed a lock of this run's own git, which was killed: {lock}")


NOT_TOUCHED = "The checkout was not touched."
ELSEWHERE = "it is not in the checked-out branch"
MOST = 5  # commits that a message names
QUESTION = "COMMIT_"  # prefix of the choice about one commit
UNDECIDED = "ask"
ANSWERS = {
    UNDECIDED: "not decided yet: the preview stops",
    "revert": "the feature's: revert it too",
    "keep": "not the feature's: keep it",
}


@dataclass(frozen=True)
class OldCode:
    """A scratch clone in which the feature's commits are reverted."""

    head: str  # the deployed checkout's current commit
    commit: str  # its future commit
    mode: str  # "revert" or "reset"
    findings: Sequence[Finding]  # every commit concerned, and its action
    reverted: Sequence[Commit]  # the reverted commits, newest first
    nothing_left: Sequence[str]  # commits of which nothing was left to revert
    elsewhere: Sequence[Commit]  # commits that the plan lists but the branch lacks
    kept_files: Sequence[str]
    path: Path
    brought_back: Sequence[str] = ()  # deployed files that are committed again after the reverts


def prepare(context: Context, repository: str) -> OldCode:
    """Revert the feature's commits in a scratch clone; the same run gives the same commit each time. Read-only.

    Raises:
        PreconditionError: The checkout is not ready, the feature's work cannot be separated from others', the reverts
            and the rebuilt files differ, or a reset would lose later work.
        UnknownOutcome: For some commits it is undecided whether they are the feature's.
    """
    checkout = context.checkout(repository)
    if not _is_as_approved(context, checkout):  # files that a later build leaves do no harm
        require_ready(context, repository)
    head, way = checkout.head(), mode(context, repository)
    migration = _migration(context, repository)
    keeps = migration is not None and context.schema_stays
    key = _key(context, repository)
    known: OldCode | None = context.adapters.prepared.get(key)
    if known is not None:
        return known
    found = look(context, repository)
    _require_answers(found, checkout)
    path = Path(
        mkdtemp(prefix=f"{repository}-", dir=context.adapters.scratch)
    )  # a new one for each try, since a conflict leaves one
    clone = checkout.scratch(path)
    nothing_left: Sequence[str] = []
    if found.reverts and way == "reset":
        _reset(found, checkout, clone)
    elif found.reverts:
        nothing_left, refusal = make(found, clone, context.state.author, context.state.began)
        if refusal:
            raise _refused(refusal.because, checkout)
    brought_back = _keep_migration(context, migration, clone, head) if found.reverts and migration and keeps else []
    if found.reverts and (left := look(context, repository, clone).in_effect):
        names = "; ".join(f"{commit.id[:12]} {commit.subject}" for commit in left[:MOST])
        raise _refused(f"Commits of the feature still count as in effect after their revert: {names}.", checkout)
    complete(checkout, clone, as_built=_is_as_approved(context, checkout))
    made = context.adapters.prepared[key] = OldCode(
        head=head,
        commit=clone.head(),
        mode=way,
        findings=found.findings,
        reverted=found.reverts,
        nothing_left=nothing_left,
        elsewhere=_elsewhere(context, repository, checkout),
        kept_files=own_files(migration, read(migration, clone)) if found.reverts and migration else [],
        path=path,
        brought_back=brought_back,
    )
    return made


def commit_without(context: Context, repository: str) -> str:
    """Return the checkout's commit after the revert, as approved, else as prepared. Read-only.

    Raises:
        PreconditionError: As `prepare` does; UnknownOutcome too.
    """
    checkout = context.checkout(repository)
    return checkout.head() if _is_as_approved(context, checkout) else prepared(context, repository).commit


def prepared(context: Context, repository: str) -> OldCode:
    """Return the code prepared for the checkout's current state, reverted or not; prepares it if necessary. Read-only.

    It does not check again whether the checkout is ready: the step that moves it does that.
    """
    known: OldCode | None = context.adapters.prepared.get(_key(context, repository))
    if known is None:
        head, made = context.checkout(repository).head(), context.adapters.prepared
        ours = (each for key, each in made.items() if isinstance(each, OldCode) and key.startswith(f"{repository} "))
        known = next((replace(each, head=head) for each in ours if each.commit == head), None)
    return known or prepare(context, repository)


def _key(context: Context, repository: str) -> str:
    head, way = context.checkout(repository).head(), mode(context, repository)
    keeps = _migration(context, repository) is not None and context.schema_stays
    answered = sorted(f"{name}={value}" for name, value in context.state.choices.items() if name.startswith(QUESTION))
    return f"{repository} {head} {way} {keeps} {answered}"


def mode(context: Context, repository: str) -> str:
    """Return revert or reset: the engineer's choice, else the plan's. Read-only."""
    specs = context.plan.steps.values()
    planned = next((s.code for s in specs if isinstance(s, RevertingStep) and s.repository == repository), "revert")
    return context.state.choices.get("CODE", planned)


def look(
    context: Context, repository: str, at: Checkout | None = None, tip: str = "HEAD", *, undecided: bool = False
) -> TakeBack:
    """Find what to revert in the deployed checkout, or at a tip in a clone. Read-only.

    Args:
        undecided: Whether to ignore all decisions about commits, and use only the plan.

    Raises:
        PreconditionError: The plan lists a name that is not a commit of the repository.
    """
    checkout = at or context.checkout(repository)
    answers = _answers(context, repository, undecided)
    commit = checkout.resolved(tip)
    key = f"look at {repository} {commit} {sorted(answers.include)} {sorted(answers.exclude)}"
    known: TakeBack | None = context.adapters.prepared.get(key)
    if known is None:
        known = context.adapters.prepared[key] = take_back(checkout, context.plan.feature, commit, answers)
    return known


def questions(context: Context, repository: str) -> dict[str, Commit]:
    """Return the commits that need a decision, by the name of the choice. Read-only."""
    asked = [*look(context, repository, undecided=True).asks, *look(context, repository).asks]
    return {question(finding.commit.id): finding.commit for finding in asked}


def question(commit: str) -> str:
    """Return the name of the choice about a commit."""
    return f"{QUESTION}{commit[:12]}"


def live_commits(context: Context, repository: str, at: Checkout | None = None, tip: str = "HEAD") -> list[Commit]:
    """Return the feature's commits still in effect in the deployed checkout, or at a tip in a clone. Read-only."""
    return look(context, repository, at, tip).in_effect


def _is_as_approved(context: Context, checkout: Checkout) -> bool:
    """Check whether the checkout is at the approved reverted commit. Read-only."""
    facts = [step["facts"] for step in context.state.agreed.values()]
    wanted = {each["commit"] for each in facts if "nothing left" in each}
    return bool(wanted) and checkout.head() in wanted


def _answers(context: Context, repository: str, undecided: bool) -> Answers:
    checkout, spec = context.checkout(repository), context.plan.repositories[repository]
    include: dict[str, str] = dict(_listed(spec, repository, checkout))
    exclude = {_named(checkout, name, f"repositories.{repository}.exclude") for name in spec.exclude}
    for name, value in {} if undecided else context.state.choices.items():
        if name.startswith(QUESTION) and (commit := checkout.resolved(name.removeprefix(QUESTION))):
            if value == "revert":
                include[commit] = "somebody decided to revert it"
            elif value == "keep":
                exclude.add(commit)
    return Answers(include, exclude)


def _listed(spec: Repository, repository: str, checkout: Checkout) -> Mapping[str, str]:
    listed = {_named(checkout, name, f"repositories.{repository}.commits"): "the plan lists it" for name in spec.commits}
    if spec.range:
        ends = [_named(checkout, end, f"repositories.{repository}.range") for end in spec.range.split("..", 1)]
        for commit in checkout.between(*ends):
            listed.setdefault(commit, "it is in the plan's range")
    return listed


def _elsewhere(context: Context, repository: str, checkout: Checkout) -> list[Commit]:
    listed = _listed(context.plan.repositories[repository], repository, checkout)
    return [checkout.log(i, most=1)[0] for i in listed if not checkout.holds(i)]


def _named(checkout: Checkout, name: str, where: str) -> str:
    if full := checkout.resolved(name):
        return full
    raise PreconditionError(
        f"The plan lists {name} under {where}, which is not a commit of this repository.",
        where=str(checkout.path),
        state=NOT_TOUCHED,
        safe_next="Fix the plan, or bring the commit here with `git fetch`.",
    )


def _require_answers(found: TakeBack, checkout: Checkout) -> None:
    if found.status is Status.ASK:
        asked = [f"{f.commit.id[:12]} “{f.commit.subject}” ({f.why})" for f in found.asks]
        choices = ", ".join(f"{question(f.commit.id)}=keep" for f in found.asks[:MOST])
        raise UnknownOutcome(
            f"It is undecided whether these commits are the feature's: {'; '.join(asked[:MOST])}.",
            where=str(checkout.path),
            state=NOT_TOUCHED,
            safe_next=f"Choose revert or keep for each, such as {choices}; or list them in the plan (`commits`, `exclude`).",
        )
    if found.refused:
        raise _refused(found.refused.because, checkout)


def _refused(because: str, checkout: Checkout) -> RunbookError:
    return PreconditionError(
        because,
        where=str(checkout.path),
        state="The deployed checkout was not touched.",
        safe_next="Resolve it by hand on a branch, or list the other commits in the plan too, and run the preview again.",
    )


def _reset(found: TakeBack, checkout: Checkout, clone: Checkout) -> None:
    """Reset the clone below the feature's oldest commit, if that gives the same files as the reverts."""
    names = "; ".join(f"{c.id[:12]} {c.subject}" for c in found.on_top[:MOST]) + ("; …" if len(found.on_top) > MOST else "")
    lost = f"A reset would lose work of others ({len(found.on_top)} commits): {names}." if found.on_top else ""
    if not found.below:
        lost = "A reset would leave no commit: the feature's oldest is the first of all."
    elif not lost and differences(clone.git, found.tip, found.below) != found.rebuilt.files:
        lost = "A reset would give other files than reverting the feature's commits."
    if lost:
        raise PreconditionError(
            lost, where=str(checkout.path), state=NOT_TOUCHED, safe_next="Choose CODE=revert, which keeps that."
        )
    clone.back_to(found.below)


def _migration(context: Context, repository: str) -> Migration | None:
    """Return the feature's migrations if their files are in that repository."""
    found = context.plan.migration
    return found if found and found.repository == repository else None


def message_of_kept(migration: Migration) -> str:
    """Return the message of the commit that keeps a migration's files; it marks the commit as not the feature's. Pure."""
    return (
        f"{KEEPS.format(version=', '.join(migration.versions))}\n\n"
        "Its row in the migration history stays too; the two go together."
    )


def _keep_migration(context: Context, migration: Migration, clone: Checkout, head: str) -> list[str]:
    """Commit the deployed migrations' files again, with their shared files; returns which."""
    changed = differences(clone.git, clone.head(), head)
    there = companions(migration, [file for file, deployed in changed.items() if deployed])
    following = [file for file, companion in there.items() if companion.follows == "migration"]
    if files := sorted({*clone.deleted_below(head, migration.directory), *following}):
        clone.keep(
            files,
            head,
            message_of_kept(migration),
            context.state.author,
            context.state.began,
        )
    return files
