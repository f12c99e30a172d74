"""The steps of a plan, each kind with its own keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from runbook_lib.parameters import Model
from runbook_lib.plan.values import Name


def _inside(path: str) -> str:
    parts = Path(path).parts
    if not parts or Path(path).is_absolute() or ".." in parts or parts[0] in (".git", "~"):
        raise ValueError("it must lie inside the repository, below its top and outside .git")
    return path


Inside = Annotated[str, AfterValidator(_inside)]


class _Step(Model):
    title: str
    estimate: Annotated[int, Field(gt=0)]  # seconds
    options: list[Name] = []  # the options that it belongs to; none means every one


class ServicesStep(_Step):
    """Stop, start or restart services."""

    kind: Literal["stop", "start", "restart"]
    services: list[Name]


class RepositoryStep(_Step):
    """A step that works on a repository."""

    repository: Name


class RevertStep(RepositoryStep):
    """Take a repository's code back."""

    kind: Literal["revert"]
    code: Literal["revert", "reset"] = "revert"


class BuildStep(RepositoryStep):
    """Build a repository's code."""

    kind: Literal["build"]
    clear: list[Inside] = []  # caches to be removed before it


class PushStep(RepositoryStep):
    """Push a repository's code to where the next deployment takes it from."""

    kind: Literal["push"]


class RebuildStep(RepositoryStep):
    """Build a repository's code anew, its caches cleared, though it may be built already."""

    kind: Literal["rebuild"]
    clear: list[Inside]


class EndSessionsStep(_Step):
    """End the sessions that others hold on the database."""

    kind: Literal["end_sessions"]


class FreezeStep(_Step):
    """Hold still what the target names, or let it go again."""

    kind: Literal["freeze", "release"]


class PurgeCacheStep(_Step):
    """Purge the caches in front of the services, where the target names a command for it."""

    kind: Literal["purge_cache"]


class DatabaseStep(_Step):
    """A step that works on the database."""


class BackupStep(DatabaseStep):
    """Back the database up."""

    kind: Literal["backup"]


class FenceStep(DatabaseStep):
    """Keep the application's role out of the database, or let it in again."""

    kind: Literal["fence", "let_in"]


class ClearBackfillStep(DatabaseStep):
    """Take what the backfill wrote out of the data."""

    kind: Literal["clear_backfill"]
    strategy: Literal["auto", "swap", "batched", "keyed"] = "auto"
    live: bool = False  # whether the application may go on using the table meanwhile


class RemoveColumnsStep(DatabaseStep):
    """Take the feature's columns, with their indexes and constraints, out of the table."""

    kind: Literal["remove_columns"]
    mode: Literal["drop", "quarantine"] = "quarantine"


class RestoreAsideStep(DatabaseStep):
    """Restore the newest backup into a database beside the live one, and count what its taking the place would lose."""

    kind: Literal["restore_aside"]
    jobs: Annotated[int, Field(gt=0)] = 2
    missing_tables: Literal["refuse", "lose"] = "refuse"  # tables with rows that the backup does not hold
    uncounted: Literal["stop", "lose"] = "stop"  # tables whose loss cannot be counted, as where they are corrupt


class SwapDatabaseStep(DatabaseStep):
    """Put the database restored aside in the place of the live one."""

    kind: Literal["swap_database"]
    salvage: Literal["carry", "nothing"] = "nothing"  # what becomes of rows written since the backup


class RestorePartStep(DatabaseStep):
    """Restore one column of a table from the backup, or the table's missing rows, or the table where it is gone."""

    kind: Literal["restore_part"]
    table: Name
    column: Name | None = None
    fill: Literal["missing", "differing"] = "missing"  # the rows of the column that are written


StepSpec = Annotated[
    ServicesStep
    | RevertStep
    | BuildStep
    | PushStep
    | RebuildStep
    | EndSessionsStep
    | FreezeStep
    | PurgeCacheStep
    | BackupStep
    | FenceStep
    | ClearBackfillStep
    | RemoveColumnsStep
    | RestoreAsideStep
    | SwapDatabaseStep
    | RestorePartStep,
    Field(discriminator="kind"),
]
