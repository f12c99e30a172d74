"""Option C, first half: restore the backup into a database next to the live one, and count what going back would lose."""

import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import psycopg
from pydantic import Field

from runbook_lib.checks.prerequisites import prerequisite
from runbook_lib.checks.restorable import RESTORABLE, missing_tables, what_is_left_out
from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.plan.steps import RESTORED, About, RestoringStep, Touches
from runbook_lib.context.comparison import CATALOG_RESTORED
from runbook_lib.context.migration_files import history
from runbook_lib.errors import AdapterError, Declined, RunbookError
from runbook_lib.journal.control import Control
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, catalog, database_size, old_collations
from runbook_lib.postgres.changes import draft
from runbook_lib.postgres.connection import MAINTENANCE, identity
from runbook_lib.postgres.dump import Entry
from runbook_lib.postgres.restore import staging_database
from runbook_lib.postgres.restore.cutover import attributes, copy_settings
from runbook_lib.postgres.restore.dump_needs import extension_changes, sections
from runbook_lib.postgres.restore.migrated import kept
from runbook_lib.postgres.restore.rerun import derive
from runbook_lib.postgres.sessions import cancelled_by
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.by_hand import Instruction, fed, in_shell, in_shell_at, in_words
from runbook_lib.steps.loss import (
    LEDGER,
    approved_checksum,
    checksum,
    count,
    keep,
    ledger,
    staging_state_of,
    unknown,
    watching,
)

EVERY = 5.0  # seconds between two looks at the size of the staging database
MEGABYTE = 1_000_000


class RestoreProgress:
    """The progress of one running restore, polled by its waiter."""

    def __init__(self, control: Control, maintenance: Connection, live: str, staging: str, what: str) -> None:
        self.control, self.maintenance, self.staging, self.what = control, maintenance, staging, what
        self._total = self._size(live)
        self._reported = float("-inf")

    def must_pause(self) -> bool:
        """Return whether to pause now, and report the progress every few seconds.

        Raises:
            Declined: Somebody requested an abort.
        """
        if not self._is_paused() and time.monotonic() - self._reported >= EVERY:
            self._reported = time.monotonic()
            text = f"restoring {self.what}; the live database is as large as the total"
            self.control.progress(self._size(self.staging), self._total, text, "MB")
        if paused := self._is_paused():
            self._reported = float("-inf")
        return paused

    def _is_paused(self) -> bool:
        try:
            return self.control.is_paused()
        except Declined as error:
            raise Declined(
                "The restore was aborted on request.",
                where=error.where,
                state=f"The live database was only read; {self.staging} is incomplete.",
                safe_next="Run the step again, which recreates the staging database; or undo it, which drops it.",
            ) from None

    def _size(self, name: str) -> int:
        with suppress(psycopg.Error):  # an unknown size is no reason to end a restore
            return database_size(self.maintenance, name) // MEGABYTE
        return 0


CLEANUP = "restored-database"


class RestoreStagingKeys(RestoringStep):
    """Restore the newest backup into a staging database, and count what a swap would lose."""

    kind: Literal["restore_staging"]
    jobs: Annotated[int, Field(gt=0)] = 2
    """Parallel jobs of pg_restore."""

    requires = ("database",)
    about = About(
        title="Restore the backup into a staging database",
        estimate=180,
        does="Restores the newest backup to a staging database and compares it with the live one row by row.",
        expect="A complete staging database, and the number of rows that going back would lose.",
        if_not="Read what pg_restore reports. Free disk space or grant the right it names, then apply the step again.",
        preserves="The live database is not touched.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=False,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes only the restored database."""
        return Touches(changes=frozenset({RESTORED}))

    def after(self, state: State, rules: Rules) -> State:
        """Return the state unchanged."""
        return state


class RestoreStaging(Step):
    """Restore the newest backup into a staging database; the live one is only read."""

    Keys = RestoreStagingKeys

    WORKS_IN_PARTS = True
    CHOICES = {
        "MISSING_TABLES": {
            "refuse": "stop if the backup lacks a table that has rows now",
            "lose": "go back without the tables that are missing in the backup",
        },
        "NOT_HERE": {
            "refuse": "stop if the backup names a role, an extension or another object that this server lacks",
            "leave_out": "restore without the grants, policies, publications, … that need it; each is listed",
        },
        "ON_UNCOUNTABLE": {
            "stop": "stop if the loss of a table cannot be counted",
            "lose": "go back even if the loss is unknown, for example if a table is corrupt",
        },
    }

    def in_brief(self) -> tuple[str, str]:
        """Report which backup it goes back to. Read-only."""
        try:
            dump = self.context.dump
        except RunbookError as error:
            return f"unknown: {error.what}", "unknown"
        lost = "everything written since; counted row by row before downtime"
        return f"the whole database, back to {dump.path.name}", lost

    def preview(self) -> Preview:
        """Show the backup, and what is known of the loss before it is restored. Read-only."""
        dump, postgres = self.context.dump, self.context.adapters.postgres
        with postgres.connect() as connection:
            here = identity(connection)
            missing = missing_tables(self.context, connection)
            size = database_size(connection)
            written = self._written_since(connection)
            without, _ = what_is_left_out(self.context, connection)
            versions = extension_changes(connection, sections(dump.contents.schema))
            versions += [f"{line}: the restored data has its sort order" for line in old_collations(connection)]
        newer = self._objects_not_in_backup()
        hours = max(0.0, (self.context.now() - dump.made).total_seconds() / 3600)
        kept = dump.columns_of_feature(self.context.plan.database)
        return Preview(
            self.name,
            self.title,
            would=[
                f"restore {dump.path} ({dump.path.stat().st_size / 1e6:.1f} MB, made {dump.made:%Y-%m-%d %H:%M} UTC, "
                f"{hours:.1f} h ago, {len(dump.contents.tables_with_data)} tables with rows) into the new database "
                f"{staging_database.staging_name(here.database, postgres.run)}, about as large as the live one "
                f"({size / 1e6:.0f} MB)",
                f"it {'has' if kept else 'does not have'} the feature's columns: they "
                f"{'stay, with their migration' if kept else 'go, with their migration'}",
                "compare each table with the live one, row by row; you approve that loss before the swap",
                *versions,
            ],
            loses=[
                written,
                *(f"not in the backup: the table {name} with {rows} rows" for name, rows in missing.items()),
                *(f"not restored, as chosen: {each}" for each in without),
                *newer,
            ],
            locks="ACCESS SHARE on every table of the live database while it is compared",
            undone_by="dropping the staging database",
            estimate=self.spec.estimate,
            facts={
                "server": here.system,
                "database": here.database,
                "dump": str(dump.path),
                "sha256": checksum(self.context, dump.path),
                "feature columns": kept,
                "missing tables": sorted(missing),
                **({"left out": sorted(str(each) for each in without)} if without else {}),
            },
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return commands that restore the backup next to the live database, without the comparison. Read-only."""
        assert isinstance(self.spec, RestoreStagingKeys)
        postgres, tools = self.context.adapters.postgres, self.context.adapters.dump_tools
        name = staging_database.staging_name(postgres.database, postgres.run)
        restored = tools.command_to_restore(self.context.dump.path, name, f"--jobs={self.spec.jobs}")
        with postgres.connect(MAINTENANCE) as maintenance:
            creation = staging_database.creation(maintenance, name, postgres.database)
        return [
            in_shell(fed(tools.command_of_psql(MAINTENANCE), creation), "psql says CREATE DATABASE, and no error"),
            in_shell_at(None, restored, expect="exit code 0, and no error"),
            in_words(
                "The step then compares every table with the live one, row by row, to count the loss: no script can do it. "
                "Count the rows of the tables that matter in both, and decide by that.",
                "you know which rows that came since the backup would be lost",
            ),
        ]

    def probe(self) -> Probe:
        """Report whether the staging database is complete and the loss is counted. Read-only."""
        found = staging_state_of(self.context)
        if found.kept:
            return Probe(Effect.DONE, f"the restored database already has the name {found.live}")
        if not found.staging:
            return Probe(Effect.NOT_DONE, "no staging database exists")
        if found.restored_from != checksum(self.context, self.context.dump.path):
            return Probe(Effect.HALF_DONE, f"{found.staging} is incomplete; a new try recreates it")
        if ledger(self.context) is None:
            return Probe(Effect.HALF_DONE, f"{found.staging} is restored; the loss is not counted yet")
        return Probe(Effect.DONE, f"{found.staging} is restored and the loss is counted")

    def needs(self) -> list[Precondition]:
        """The backup is complete, and server and role allow the restore. Pure."""
        known = [prerequisite(self.context, name) for name in ("tools", *RESTORABLE)]
        if self.context.plan.draft_ is None:
            return known
        return [*known, self.need("draft", "The draft is the one in the plan", When.BEFOREHAND, self._drafted)]

    def apply(self) -> Facts:
        """Restore, check, and count the loss; a complete database is not restored again. Changes the target.

        Raises:
            Declined: Somebody aborted it; the next try recreates an incomplete staging database.
        """
        postgres = self.context.adapters.postgres
        live, name = postgres.database, staging_database.staging_name(postgres.database, postgres.run)
        checked = approved_checksum(self.context, self.name)
        with self.control.listening():
            if staging_state_of(self.context).restored_from != checked:
                self.reporter.open_cleanup(
                    CLEANUP, f"The database {name} was restored next to {live}; drop it, or swap it in."
                )
                self._restore(live, name, checked)
            with postgres.connect(MAINTENANCE) as maintenance:
                copy_settings(maintenance, attributes(maintenance, live), name, comment=False)
            self._derive(live, name)
            self.control.part(0, 0, "comparing with the live database", "tables")
            with postgres.connect(name) as connection, cancelled_by(connection, self.control.must_pause):
                self.context.folder.write_json(CATALOG_RESTORED, catalog(connection))
                rows = staging_database.counts(connection, staging_database.tables(connection))
            begun = time.monotonic()
            counted = count(self.context, live, name, watching(self.control, "compared"))
        keep(self.context, counted, time.monotonic() - begun)
        return {"database": name, "rows": rows, "differences": [str(t) for t in counted.tables if t.differs or t.unknown]}

    def verify(self) -> list[Result]:
        """Check that the staging database has everything in the backup, and that the loss is known. Read-only."""
        name = staging_state_of(self.context).staging
        if not name:
            return [
                self.result(
                    "restored",
                    "The backup is restored to the staging database",
                    Status.PASS,
                    "it has replaced the live one",
                )
            ]
        with self.context.adapters.postgres.connect(name) as connection:
            problems = staging_database.problems(connection, self.context.dump)
            if not self._agrees_with_history(connection):
                problems.append("its migration history and the feature's columns disagree")
        missing = unknown(self.context, ledger(self.context))
        return [
            self.result(
                "restored",
                "The staging database is complete and valid",
                Status.FAIL if problems else Status.PASS,
                "; ".join(problems) or f"{name} holds every table of the backup; constraints and indexes are valid",
            ),
            self.result(
                "loss",
                "The loss is known",
                Status.UNKNOWN if missing else Status.PASS,
                "; ".join(f"{what}: {why}" for what, why in missing.items()) or f"every table is compared: {LEDGER}",
            ),
        ]

    def undo(self) -> Facts:
        """Drop the staging database. Changes the target."""
        return self.purge(CLEANUP)

    def purge_preview(self, item: str) -> Preview:
        """Show which database would be dropped. Read-only."""
        found = staging_state_of(self.context)
        would = f"drop the database {found.staging}" if found.staging else "nothing: no staging database exists"
        return Preview(self.name, self.title, would=[would], undone_by="restoring the backup again")

    def purge(self, item: str) -> Facts:
        """Drop the staging database if it exists. Changes the target."""
        name = staging_state_of(self.context).staging
        postgres = self.context.adapters.postgres
        with postgres.connect(MAINTENANCE) as maintenance:
            for each in filter(None, (name, staging_database.migrated_name(postgres.database, postgres.run))):
                staging_database.drop(maintenance, each, force=True)
        self.reporter.close_cleanup(CLEANUP)
        return {"dropped": name}

    def _restore(self, live: str, name: str, checked: str) -> None:
        assert isinstance(self.spec, RestoreStagingKeys)
        postgres, dump = self.context.adapters.postgres, self.context.dump.path
        with postgres.connect(MAINTENANCE) as maintenance:
            restoring = RestoreProgress(self.control, maintenance, live, name, dump.name)
            tools = replace(self.context.adapters.dump_tools, hold=restoring.must_pause)
            with postgres.connect() as connection:
                without = frozenset(each.number for each in what_is_left_out(self.context, connection)[0])
            staging_database.restore_staging(
                postgres, tools, live, dump, checked, self.spec.jobs, self.control.must_pause, without
            )

    @property
    def _draft(self) -> Path:
        return Path(self.context.target.backups.directory) / self.context.plan.draft.changes

    def _drafted(self) -> Found:
        found = draft.read(self._draft, self.context.plan.draft.sha256)
        return Status.PASS, f"{self._draft.name}, made {found.made}"

    def _derive(self, live: str, name: str) -> None:
        """Run a draft's migrations on a copy to find what they write, if the backup is from before them."""
        postgres, run, recorded = self.context.adapters.postgres, self.context.folder.short, history(self.context)
        if self.context.plan.draft_ is None:
            return
        with postgres.connect(name) as connection:
            if kept(connection, run) is not None or (recorded and recorded.exists(connection) and recorded.rows(connection)):
                return
        found = draft.read(self._draft, self.context.plan.draft.sha256)
        self.control.part(0, 0, "running the migrations on a copy of the backup", "")
        scripts = draft.unpack(self._draft, self.context.adapters.scratch / f"states-{self.name}").scripts
        with staging_database.migrated(postgres, self.context.adapters.dump_tools, live, scripts) as (copy, said):
            why = (
                f"the migrations do not run on the backup: {said}"
                if said and not (found.stopped and found.stopped in said)
                else ""
            )
            derive(copy, lambda: postgres.connect(name), self.context.plan.history_tables, run, found.changing, why)

    def _written_since(self, connection: Connection) -> str:
        database = self.context.plan.database
        touch = database.backfill_.touch_column if database.backfill_ else None
        moment = self.context.dump.made + timedelta(seconds=1)  # the dump gives its time to the second
        rows = (
            staging_database.written_since(connection, (database.schema_, database.table), touch, moment) if touch else None
        )
        if rows is None:
            return "rows written since the backup: counted once it is restored to a staging database"
        return f"at least {rows} rows of {database.table} written since the backup, by {touch}; the full count follows"

    def _objects_not_in_backup(self) -> list[str]:
        """Return the objects of the live database that are not in the backup, a line each. Read-only."""
        try:
            live = self.context.adapters.dump_tools.objects(120)
        except AdapterError as error:
            return [f"objects created since the backup: unknown, {error.what}"]
        there = {_named(entry) for entry in self.context.dump.contents.entries}
        lost = {_named(entry) for entry in live if entry.kind != "COMMENT" and OWN_SCHEMA not in (entry.schema, entry.name)}
        return [f"not in the backup: {name}" for name in sorted(lost - there)]

    def _agrees_with_history(self, connection: Connection) -> bool:
        """Report whether the feature's migrations are recorded exactly if its columns exist. Read-only."""
        found, plan = history(self.context), self.context.plan
        return found is None or bool(self.context.dump.columns_of_feature(plan.database)) == found.says_applied(connection)


def _named(entry: Entry) -> str:
    return f"{entry.kind} {entry.schema}.{entry.name}".replace(" -.", " ")
