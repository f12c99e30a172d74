"""The code without the feature, made in a scratch clone before anything is touched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from runbook_lib.adapters.git import Checkout, Commit
from runbook_lib.context import Context
from runbook_lib.errors import PreconditionError
from runbook_lib.plan import Repository, RevertStep
from runbook_lib.reverts import TAKEN_BACK, Found, account, on_top

NOT_TOUCHED = "The checkout was not touched."
ELSEWHERE = "is not in the branch checked out"
MOST = 5  # commits that a message names


@dataclass(frozen=True)
class OldCode:
    """A scratch clone in which the feature's commits are taken back."""

    head: str  # what the deployed checkout holds now
    commit: str  # what it will hold
    mode: str  # "revert" or "reset"
    account: Sequence[Found]  # every commit of the feature, and what becomes of it
    nothing_left: Sequence[str]  # commits whose changes were gone already
    kept_files: Sequence[str]
    path: Path

    @property
    def reverted(self) -> Sequence[Commit]:
        """The commits that are taken back, newest first."""
        return [found.commit for found in self.account if found.fate == TAKEN_BACK]


def prepare(context: Context, repository: str) -> OldCode:
    """Take the feature's commits back in a scratch clone; the same run gives the same commit each time. Read-only.

    Raises:
        PreconditionError: The checkout is not ready, the reverts conflict with later work, or a reset would lose some.
    """
    checkout = context.checkout(repository)
    if not _is_as_approved(context, checkout):  # what a build leaves in the tree afterwards does no harm
        checkout.require_ready()
    head, way = checkout.head(), mode(context, repository)
    keeps = repository == context.plan.database.migration.repository and context.schema_stays
    key = f"{repository} {head} {way} {keeps}"
    known: OldCode | None = context.prepared.get(key)
    if known is not None:
        return known
    found = feature_commits(context, repository)
    commits = [f.commit for f in found if f.fate == TAKEN_BACK]
    path = Path(mkdtemp(prefix=f"{repository}-", dir=context.scratch))  # a new one each try: a conflict leaves one behind
    clone = checkout.scratch(path)
    nothing_left: list[str] = []
    if commits and way == "reset":
        clone.back_to(_below(checkout, commits, found))
    elif commits:
        nothing_left = [c.id for c in commits if not clone.revert(c, _author(context), context.opened_at)]
    if commits and keeps:
        _keep_migration(context, clone, head)
    migration = context.plan.database.migration
    made = context.prepared[key] = OldCode(
        head=head,
        commit=clone.head(),
        mode=way,
        account=found,
        nothing_left=nothing_left,
        kept_files=[f for f in clone.files(migration.directory) if Path(f).name.startswith(migration.version)]
        if commits and repository == migration.repository
        else [],
        path=path,
    )
    return made


def mode(context: Context, repository: str) -> str:
    """Whether the code is taken back by reverts or by a reset: the engineer's choice, else the plan's. Read-only."""
    specs = context.plan.steps.values()
    planned = next((s.code for s in specs if isinstance(s, RevertStep) and s.repository == repository), "revert")
    return context.choices.get("CODE", planned)


def feature_commits(context: Context, repository: str, at: Checkout | None = None, tip: str = "HEAD") -> list[Found]:
    """Every commit of the feature in the deployed checkout, or at a tip in a clone, and what becomes of it. Read-only.

    Raises:
        PreconditionError: The plan lists something that is no commit of the repository.
    """
    checkout = at or context.checkout(repository)
    listed = _listed(context.plan.repositories[repository], repository, context.checkout(repository))
    log = checkout.log(tip)
    there = {commit.id for commit in log}
    elsewhere = [Found(checkout.log(i, most=1)[0], how, ELSEWHERE) for i, how in listed.items() if i not in there]
    return [*account(log, context.plan.feature, checkout.brought_by, listed), *elsewhere]


def live_commits(context: Context, repository: str, at: Checkout | None = None, tip: str = "HEAD") -> list[Commit]:
    """The feature's commits still in effect in the deployed checkout, or at a tip in a clone. Read-only."""
    found = feature_commits(context, repository, at, tip)
    gone = _nothing_left(context, repository)
    return [f.commit for f in found if f.fate == TAKEN_BACK and f.commit.id not in gone]


def _is_as_approved(context: Context, checkout: Checkout) -> bool:
    """Whether the checkout holds the code taken back that was approved. Read-only."""
    wanted = {facts["commit"] for facts in context.approved.values() if "nothing left" in facts}
    return bool(wanted) and checkout.head() in wanted


def _nothing_left(context: Context, repository: str) -> set[str]:
    """Commits that bore no revert of their own, as nothing of them was left. Read-only."""
    facts = context.approved.values()
    return {i for f in facts if f.get("repository") == repository for i in f.get("nothing left", [])}


def _listed(spec: Repository, repository: str, checkout: Checkout) -> dict[str, str]:
    listed = {_named(checkout, name, f"repositories.{repository}.commits"): "list" for name in spec.commits}
    if spec.range:
        ends = [_named(checkout, end, f"repositories.{repository}.range") for end in spec.range.split("..", 1)]
        for commit in checkout.between(*ends):
            listed[commit] = "list and range" if commit in listed else "range"
    return listed


def _named(checkout: Checkout, name: str, where: str) -> str:
    if full := checkout.resolved(name):
        return full
    raise PreconditionError(
        f"The plan lists {name} under {where}, which is no commit of this repository.",
        where=str(checkout.path),
        state=NOT_TOUCHED,
        safe_next="Mend the plan, or bring the commit here with `git fetch`.",
    )


def _below(checkout: Checkout, commits: Sequence[Commit], found: Sequence[Found]) -> str:
    """The commit to reset to: the one below the feature's oldest, where nothing else lies on top of it."""
    base, others = on_top(checkout.log(), commits, found, checkout.brought_by)
    if base and not others:
        return base
    listed = "; ".join(f"{c.id[:12]} {c.subject}" for c in others[:MOST]) + ("; …" if len(others) > MOST else "")
    raise PreconditionError(
        f"A reset would lose what is not the feature's ({len(others)} commits): {listed}."
        if base
        else "A reset would leave no commit: the feature's oldest is the first of all.",
        where=str(checkout.path),
        state=NOT_TOUCHED,
        safe_next="Choose CODE=revert, which keeps it.",
    )


def _keep_migration(context: Context, clone: Checkout, head: str) -> None:
    migration = context.plan.database.migration
    if files := clone.deleted_below(head, migration.directory):
        clone.keep(
            files,
            head,
            f"Keep migration {migration.version}: the schema it made stays\n\n"
            "Its row in the migration history stays too; the two go together.",
            _author(context),
            context.opened_at,
        )


def _author(context: Context) -> str:
    return context.opened_by or "runbook"
