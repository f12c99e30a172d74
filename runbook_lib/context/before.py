"""The newest backup from before the feature; one that the target recovers to a point in time is kept among its backups."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runbook_lib.config.target import PointInTime, Target
from runbook_lib.context.adapters import Adapters
from runbook_lib.context.migration_files import HasFiles, history
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import added_by
from runbook_lib.postgres.dump import dump_to
from runbook_lib.postgres.point_in_time.base_backup import refused
from runbook_lib.postgres.point_in_time.recovery import carried_out, live_server, look, oldest
from runbook_lib.postgres.restore.dump_inspector import newest

TRIES = 4  # tools record a migration in up to three transactions, each of which leads to the one before


class HasTarget(HasFiles, Protocol):
    """A run, as far as its plan and target go."""

    target: Target
    adapters: Adapters


@dataclass(frozen=True)
class Before:
    """The backup from before the feature, None where there is none, and how it came about where it was recovered."""

    path: Path | None
    how: str = ""


def recovered_files(feature: str) -> str:
    """The file names of the states that were recovered for a feature, as a glob. Pure."""
    return f"before_{_plain(feature)}_*.dump"


def newest_before(run: HasTarget) -> Before:
    """The newest backup from before the feature. Changes the target's backups only, and only where it recovers one.

    Raises:
        PreconditionError: No base backup and WAL lead to the state from before.
        AdapterError: It cannot be recovered or dumped.
    """
    backups, spec = run.target.backups, run.target.before
    return _recovered(run, spec) if spec else Before(newest(Path(backups.directory), backups.pattern))


def _recovered(run: HasTarget, spec: PointInTime) -> Before:
    directory, feature, processes = Path(run.target.backups.directory), _plain(run.plan.feature), run.adapters.processes
    with run.adapters.postgres.connect() as connection:
        xids, live = _transactions(connection, run), live_server(connection)
    of = _plain(spec.at or (str(oldest(xids)) if xids else "*"))
    if kept := newest(directory, f"before_{feature}_{of}_*.dump"):
        return Before(kept, "recovered earlier")
    for _ in range(TRIES):
        way = look(spec, live, xids, run.target.database.tools, processes, directory)
        with carried_out(way, processes) as server, server.connect() as connection:
            xids = _transactions(connection, run)
            if spec.at and xids:
                raise refused(
                    f"The state at {spec.at} holds the migration, or some of it.",
                    "Name an earlier moment in the target, as before.at, or none: the migration history shows it.",
                )
            if not xids:
                path = directory / f"before_{feature}_{of}_{server.moment:%Y%m%dT%H%M%S.%f}Z.dump"
                dump_to(path, processes, str(way.programs / "pg_dump"), server.conninfo, spec.timeout)
                return Before(path, f"recovered now: {way}")
    raise refused(
        f"The state before the migration was looked for {TRIES} times, and holds some of the migration each time.",
        "Name the moment in the target: before.at, just before the first commit then or later.",
    )


def _transactions(connection: Connection, run: HasTarget) -> list[int]:
    """The transactions that wrote what shows that the feature's migrations were applied. Read-only."""
    plan, rows = run.plan, history(run)
    found = rows.written_by(connection) if rows and rows.exists(connection) else []
    if "database" in plan.parts:
        found += added_by(connection, plan.database, plan.database.columns)
    return found


def _plain(text: str) -> str:
    return re.sub(r"[^\w.*-]", "-", text, flags=re.ASCII)
