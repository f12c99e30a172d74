"""The newest backup from before the feature; a point-in-time recovery is kept among the target's backups."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runbook_lib.config.plan import Migration
from runbook_lib.config.target import Target
from runbook_lib.context.adapters import Adapters
from runbook_lib.context.migration_files import HasFiles, history, of_files
from runbook_lib.git import Checkout
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import added_by
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.dump import dump_to
from runbook_lib.postgres.migration_history import Applied, History
from runbook_lib.postgres.point_in_time.base_backup import refused
from runbook_lib.postgres.point_in_time.recovery import carried_out, live_server, look, oldest
from runbook_lib.postgres.restore.dump_inspector import newest
from runbook_lib.system.processes import LocalProcesses, Processes

Transactions = Callable[[Connection], list[int]]
TRIES = 4  # tools record a migration in up to three transactions, each of which leads to the previous one


class HasTarget(HasFiles, Protocol):
    """The part of a run with its plan and target."""

    target: Target
    adapters: Adapters


@dataclass(frozen=True)
class Before:
    """The backup from before the feature, None if there is none, and how it was recovered, if it was."""

    path: Path | None
    how: str = ""


def recovered_files(feature: str) -> str:
    """Return the file names of a feature's recovered states, as a glob. Pure."""
    return f"before_{_plain(feature)}_*.dump"


def newest_before(run: HasTarget) -> Before:
    """Return the newest backup from before a run's feature; see `backup_before`. Changes the target's backups only."""

    def transactions(connection: Connection) -> list[int]:
        plan = run.plan
        found = _of_history(connection, history(run))
        if "database" in plan.parts:
            found += added_by(connection, plan.database, plan.database.columns)
        return found

    return backup_before(run.target, run.plan.feature, transactions, run.adapters.postgres, run.adapters.processes)


def before_migration(target: Target, feature: str, migration: Migration, schema: str, checkout: Checkout) -> Before:
    """Return the same for a migration without a run; `schema` is its history's. Changes the target's backups only."""
    applied = of_files(Applied.by_version(migration, schema), checkout)
    postgres = Postgres(target.database.service, "draft", dbname=target.database.dbname)
    return backup_before(target, feature, lambda it: _of_history(it, History(applied)), postgres, LocalProcesses())


def backup_before(
    target: Target, feature: str, transactions: Transactions, postgres: Postgres, processes: Processes
) -> Before:
    """Return the newest backup from before a feature. Changes the target's backups only, and only if it recovers one.

    Args:
        target: The target of the feature.
        feature: Its id.
        transactions: Returns the transactions that wrote the feature's migrations in a database; none if it has none.
        postgres: The target's database.
        processes: Runs commands.

    Raises:
        PreconditionError: No base backup and WAL reach the state from before.
        AdapterError: It cannot be recovered or dumped.
    """
    spec, directory, name = target.before, Path(target.backups.directory), _plain(feature)
    if spec is None:
        return Before(newest(directory, target.backups.pattern))
    with postgres.connect() as connection:
        xids, live = transactions(connection), live_server(connection)
    of = _plain(spec.at) if spec.at else str(oldest(xids)) if xids else "*"
    if kept := newest(directory, f"before_{name}_{of}_*.dump"):
        return Before(kept, "recovered earlier")
    for _ in range(TRIES):
        way = look(spec, live, xids, target.database.tools, processes, directory)
        with carried_out(way, processes) as server, server.connect() as connection:
            xids = transactions(connection)
            if spec.at and xids:
                raise refused(
                    f"The state at {spec.at} has the migration, or a part of it.",
                    "Name an earlier moment in the target, as before.at, or none: then the migration history shows it.",
                )
            if not xids:
                path = directory / f"before_{name}_{of}_{server.moment:%Y%m%dT%H%M%S.%f}Z.dump"
                dump_to(path, processes, str(way.programs / "pg_dump"), server.conninfo, spec.timeout)
                return Before(path, f"recovered now: {way}")
    raise refused(
        f"{TRIES} recovered states were tried as the one before the migration, but each has a part of the migration.",
        "Name the moment in the target: before.at, just before the migration's first commit.",
    )


def _of_history(connection: Connection, rows: History | None) -> list[int]:
    return rows.written_by(connection) if rows and rows.exists(connection) else []


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", text)
