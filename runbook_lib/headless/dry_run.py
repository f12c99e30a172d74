"""The dry run: preview everything, write nothing to the target, and show that."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runbook_lib.config.plan import ColumnOfRow
from runbook_lib.context import Context
from runbook_lib.context.before import recovered_files
from runbook_lib.errors import AdapterError, RunbookError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import catalog, has_column
from runbook_lib.results import Result
from runbook_lib.run import Run
from runbook_lib.steps import Preview
from runbook_lib.ui import display, plan_summary
from runbook_lib.ui.display import Shown


@dataclass(frozen=True)
class DryRun:
    """What a dry run found."""

    digest: str
    previews: list[Preview]
    tried: list[Result]
    foreseen: list[Result]
    obstacles: list[Result]  # why it cannot be approved; none where it can
    untouched: dict[str, str]
    banner: Shown
    summary: str  # what must be known before an approval
    details: Shown  # all that was found

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        looks = {"tried": self.tried, "foreseen": self.foreseen, "obstacles": self.obstacles}
        return {
            "digest": self.digest,
            "previews": [asdict(preview) for preview in self.previews],
            **{name: [asdict(result) for result in found] for name, found in looks.items()},
            "untouched": self.untouched,
        }


def dry_run(run: Run) -> DryRun:
    """Check the prerequisites, preview every step, and compare the target before and after. Read-only.

    Raises:
        PreconditionError: A prerequisite does not hold.
        RunbookError: The target is not as it was before.
    """
    try:
        before = fingerprint(run.context, run.touches_database)
    except AdapterError:
        run.prerequisites()  # its error names the cause and what to do
        raise
    prerequisites = run.prerequisites()
    digest, previews = run.previews()
    after = fingerprint(run.context, run.touches_database)
    if changed := [name for name in before if before[name] != after[name]]:
        raise RunbookError(
            f"The target changed during the preview: {', '.join(changed)}.",
            where=run.context.target.name,
            state="The runbook's previews do not write; somebody else may be changing the target.",
            safe_next="Find out who changes it; then plan again.",
        )
    plan, state, tried, foreseen = run.context.plan, run.state, run.dry_run_of_ddl(digest), run.foreseen(digest)
    banner = display.banner(run.folder, plan, state)
    summary = plan_summary.text(plan, previews, prerequisites, foreseen, tried, state.waivers)
    details = display.side_by_side(
        display.results(prerequisites, "Prerequisites"),
        display.previews(digest, previews, tried, foreseen, state.waivers),
        display.table("Unchanged by this dry run", ["what", "fingerprint"], [list(p) for p in after.items()]),
    )
    return DryRun(digest, previews, tried, foreseen, run.obstacles(digest), after, banner, summary, details)


def fingerprint(context: Context, with_database: bool) -> dict[str, str]:
    """Hash what a rollback could change: catalog, rows to clear, checkouts, services, backups. Read-only."""
    found: dict[str, Any] = {}
    if with_database:
        with context.adapters.postgres.connect() as connection:
            found["database catalog"] = catalog(connection, context.target.database.schema_)
            if "backfill" in context.plan.parts and _can_count(context, connection):
                found["rows with backfilled entries"] = context.backfill(connection).count(connection)
        directory = Path(context.target.backups.directory)
        recovered = {*directory.glob(recovered_files(context.plan.feature))} if context.target.before else set()
        found["backups"] = sorted((path.name, path.stat().st_size) for path in directory.glob("*") if path not in recovered)
    for repository in context.plan.repositories:
        checkout = context.checkout(repository)
        found[f"checkout {repository}"] = [checkout.head(), checkout.changed_files()]
    running = context.adapters.services.running_of(context.plan.services)
    found["services running"] = [name for name in context.plan.services if name in running]
    return {name: hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12] for name, value in found.items()}


def _can_count(context: Context, connection: Connection) -> bool:
    """Whether all columns exist that identify a backfilled entry."""
    database, backfill = context.plan.database, context.plan.database.backfill
    needed = [backfill.name, *(v.column for v in backfill.written.values() if isinstance(v, ColumnOfRow))]
    return all(has_column(connection, database, column) for column in needed)
