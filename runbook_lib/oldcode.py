"""The code without the feature, made and built in a scratch clone before anything is touched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from runbook_lib.adapters.git import Checkout, Commit
from runbook_lib.context import Context
from runbook_lib.errors import PreconditionError
from runbook_lib.reverts import commits_to_revert


@dataclass(frozen=True)
class OldCode:
    """A scratch clone in which the feature's commits are taken back."""

    head: str  # what the deployed checkout holds now
    commit: str  # what it will hold
    reverted: Sequence[Commit]
    kept_files: Sequence[str]
    path: Path


def prepare(context: Context, repository: str) -> OldCode:
    """Take the feature's commits back in a scratch clone; the same run gives the same commit each time. Read-only.

    Raises:
        PreconditionError: The checkout has uncommitted changes, or the reverts conflict with later work.
    """
    checkout = context.checkout(repository)
    if changed := checkout.changed_files():
        raise PreconditionError(
            f"The checkout of {repository} has uncommitted changes: {', '.join(changed)}.",
            where=str(checkout.path),
            state="Nothing was touched.",
            safe_next="Commit or stash them; they would otherwise be built into the old version.",
        )
    head = checkout.head()
    known: OldCode | None = context.prepared.get(f"{repository} {head}")
    if known is not None:
        return known
    path = Path(mkdtemp(prefix=f"{repository}-", dir=context.scratch))  # a new one each try: a conflict leaves one behind
    commits = commits_to_revert(checkout.log(), context.plan.feature, checkout.brought_by)
    clone = checkout.scratch(path)
    for commit in commits:
        clone.revert(commit, _author(context), context.opened_at)
    if commits:
        _keep_migration(context, repository, clone, head)
    kept = context.plan.database.migration
    made = context.prepared[f"{repository} {head}"] = OldCode(
        head=head,
        commit=clone.head(),
        reverted=commits,
        kept_files=[f for f in clone.files(kept.directory) if Path(f).name.startswith(kept.version)]
        if commits and repository == kept.repository
        else [],
        path=path,
    )
    return made


def live_commits(context: Context, repository: str) -> list[Commit]:
    """The feature's commits still in effect in the deployed checkout. Read-only."""
    checkout = context.checkout(repository)
    return commits_to_revert(checkout.log(), context.plan.feature, checkout.brought_by)


def build(context: Context, repository: str, path: Path) -> str:
    """Install and build the code at `path` with the target's commands; returns what they printed.

    Changes the work tree at `path`.
    """
    target = context.target.repositories[repository]
    commands = [target.install, target.build] if target.install else [target.build]
    done = [context.processes.run(c, cwd=path, timeout=target.timeout).require() for c in commands]
    return "".join(c.output for c in done)


def built_version(context: Context, repository: str, path: Path, commit: str) -> bool | None:
    """Whether the build at `path` is of `commit`; None where the target names no artifact to tell by. Read-only."""
    artifact = context.target.repositories[repository].artifact
    if artifact is None:
        return None
    try:
        return commit[:12] in (path / artifact).read_text(encoding="utf-8")
    except OSError:
        return False


def _keep_migration(context: Context, repository: str, clone: Checkout, head: str) -> None:
    migration = context.plan.database.migration
    if repository != migration.repository or not context.schema_stays:
        return
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
    return context.operator or "runbook"
