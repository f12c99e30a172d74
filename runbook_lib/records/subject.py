"""What a run is of, as a rehearsal has to have been of it."""

from __future__ import annotations

from runbook_lib.config.installed import own_version
from runbook_lib.config.plan import RevertingStep
from runbook_lib.context import Context, old_code
from runbook_lib.git import Checkout
from runbook_lib.git.lock_files import lock_files
from runbook_lib.journal import VERSION
from runbook_lib.postgres.changes.schema_digest import schema_digest
from runbook_lib.records.record import Code, Subject


def subject_of(context: Context) -> Subject:
    """Return what a run is of as it has not begun; of one without a type, what is known by then. Read-only.

    Raises:
        AdapterError: The database or a checkout cannot be read.
        PreconditionError: The code cannot be taken back; UnknownOutcome where that is not decided.
    """
    plan, specs = context.plan, context.specs.values()
    taken_back = [spec.repository for spec in specs if isinstance(spec, RevertingStep)]
    touched = context.touches_database if context.type else bool(plan.parts & {"database", "migration", "draft"})
    return Subject(
        type=context.type,
        option=context.option if context.type and plan.types[context.type].options else "",
        plan=str(context.state.opened["plan_sha256"]),
        changes=str(plan.draft.sha256 or "") if "draft" in plan.parts else "",
        catalog=_catalog(context) if touched else "",
        code={name: _code(context, name) for name in dict.fromkeys(taken_back if context.type else plan.repositories)},
        runbook=version(),
    )


def version() -> str:
    """Return the version of this library, and of its journals. Read-only."""
    return f"{own_version()}, journal {VERSION}"


def _catalog(context: Context) -> str:
    with context.adapters.postgres.connect() as connection:
        return schema_digest(connection, context.plan.history_tables)


def _code(context: Context, repository: str) -> Code:
    checkout = context.checkout(repository)
    head = checkout.head()
    found = Code(commit=head, files=_files(checkout, head), locks=lock_files(checkout.git, head))
    if not context.type:
        return found
    old = old_code.prepared(context, repository)
    left = _files(Checkout(old.path, checkout.processes), old.commit)
    return found.model_copy(update={"leads_to": old.commit, "files_left": left})


def _files(checkout: Checkout, commit: str) -> str:
    """git's id of all files of a commit."""
    return checkout.git("rev-parse", "--verify", f"{commit}^{{tree}}").output.strip()
