"""Option C, first half: restore the backup into a database beside the live one, and count what going back would lose."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from psycopg import sql

from runbook_lib.adapters.postgres.cancelling import cancelled_by
from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA, catalog
from runbook_lib.adapters.postgres.connection import MAINTENANCE, Connection, identity, one
from runbook_lib.adapters.postgres.dump import Entry
from runbook_lib.adapters.postgres.restore import side
from runbook_lib.adapters.postgres.restore.follow import attributes, follow
from runbook_lib.checks.prerequisites import looked
from runbook_lib.checks.restorable import RESTORABLE, missing_tables
from runbook_lib.comparison import CATALOG_RESTORED
from runbook_lib.errors import AdapterError
from runbook_lib.plan import RestoreAsideStep
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.loss import LEDGER, approved_checksum, checksum, count, keep, ledger, standing, unknown, watching
from runbook_lib.steps.restoring import Restoring

DEBT = "restored-database"


class RestoreAside(Step):
    """Restore the newest backup into a side database; the live one is only read."""

    WORKS_IN_PARTS = True
    CHOICES = {
        "MISSING_TABLES": {
            "refuse": "stop where the backup lacks a table that holds rows now",
            "lose": "go back without the tables that the backup lacks",
        },
        "UNCOUNTED": {
            "stop": "stop where the loss of a table cannot be counted",
            "lose": "go back though nobody can say what is lost, as where a table is corrupt",
        },
    }

    def preview(self) -> Preview:
        """What the backup is, and what can be said of the loss before it is restored. Read-only."""
        dump, postgres = self.context.dump, self.context.postgres
        with postgres.connect() as connection:
            here = identity(connection)
            missing = missing_tables(self.context, connection)
            size = one(connection, "SELECT pg_database_size(current_database()) AS bytes")["bytes"]
            written = self._written_since(connection)
        newer = self._objects_not_in_backup()
        hours = (datetime.now(UTC) - dump.made).total_seconds() / 3600
        kept = dump.columns_of_feature(self.context.plan.database)
        return Preview(
            self.name,
            self.title,
            would=[
                f"restore {dump.path} ({dump.path.stat().st_size / 1e6:.1f} MB, made {dump.made:%Y-%m-%d %H:%M} UTC, "
                f"{hours:.1f} h ago, {len(dump.contents.tables_with_data)} tables with rows) into the new database "
                f"{side.side_name(here.database, postgres.run)}, about as large as the live one ({size / 1e6:.0f} MB)",
                f"it {'holds' if kept else 'does not hold'} the feature's columns: they "
                f"{'stay, with their migration' if kept else 'go, with their migration'}",
                "compare each table with the live one, row by row, for the loss that is approved before the swap",
            ],
            loses=[
                written,
                *(f"not in the backup: the table {name} with {rows} rows" for name, rows in missing.items()),
                *newer,
            ],
            locks="ACCESS SHARE on every table of the live database while it is compared",
            undone_by="dropping the side database",
            estimate=self.spec.estimate,
            facts={
                "server": here.system,
                "database": here.database,
                "dump": str(dump.path),
                "sha256": checksum(self.context, dump.path),
                "feature columns": kept,
                "missing tables": sorted(missing),
            },
        )

    def probe(self) -> Probe:
        """Whether the side database is whole and the loss counted. Read-only."""
        found = standing(self.context)
        if found.kept:
            return Probe(Effect.DONE, f"the restored database has the name {found.live} already")
        if not found.side:
            return Probe(Effect.NOT_DONE, "no side database is there")
        if found.restored_from != checksum(self.context, self.context.dump.path):
            return Probe(Effect.HALF_DONE, f"{found.side} is not the whole of the backup; it is made anew")
        if ledger(self.context) is None:
            return Probe(Effect.HALF_DONE, f"{found.side} is restored; the loss is not counted yet")
        return Probe(Effect.DONE, f"{found.side} is restored and the loss is counted")

    def preconditions(self) -> list[Result]:
        """That the backup is whole, and that server and role allow what is to be done. Read-only."""
        return [looked(self.context, name) for name in ("tools", *RESTORABLE)]

    def apply(self) -> Facts:
        """Restore, look over, and count the loss; what is whole already is not restored again. Changes the target.

        Raises:
            Declined: It was ended; a side database that is not whole by then is made anew the next time.
        """
        postgres = self.context.postgres
        live, name = postgres.database, side.side_name(postgres.database, postgres.run)
        checked = approved_checksum(self.context, self.name)
        with self.in_parts():
            if standing(self.context).restored_from != checked:
                self.owe(DEBT, f"The database {name} was restored beside {live}; drop it, or swap it in.")
                self._restore(live, name, checked)
            with postgres.connect(MAINTENANCE) as maintenance:
                follow(maintenance, attributes(maintenance, live), name, comment=False)
            self.part(0, 0, "comparing with the live database", "tables")
            with postgres.connect(name) as connection, cancelled_by(connection, self.stands_still):
                self.context.folder.write_json(CATALOG_RESTORED, catalog(connection))
                rows = side.counts(connection, side.tables(connection))
            counted = count(self.context, live, name, watching(self, "compared"))
        keep(self.context, counted)
        return {"database": name, "rows": rows, "differences": [str(t) for t in counted.tables if t.differs or t.unknown]}

    def verify(self) -> list[Result]:
        """That the side database holds all that the backup names, and that the loss is known. Read-only."""
        name = standing(self.context).side
        if not name:
            return [self.result("restored", "The backup is restored aside", Status.PASS, "it is in the live one's place")]
        with self.context.postgres.connect(name) as connection:
            problems = side.problems(connection, self.context.dump)
            if bool(self.context.dump.columns_of_feature(self.context.plan.database)) != self._in_history(connection):
                problems.append("its migration history and the feature's columns do not agree")
        missing = unknown(self.context, ledger(self.context))
        return [
            self.result(
                "restored",
                "The backup is restored aside, whole and valid",
                Status.FAIL if problems else Status.PASS,
                "; ".join(problems) or f"{name} holds every table of the backup; constraints and indexes are valid",
            ),
            self.result(
                "loss",
                "What going back would lose is known",
                Status.UNKNOWN if missing else Status.PASS,
                "; ".join(f"{what}: {why}" for what, why in missing.items()) or f"every table is compared: {LEDGER}",
            ),
        ]

    def undo(self) -> Facts:
        """Drop the side database. Changes the target."""
        return self.purge(DEBT)

    def purge_preview(self, debt: str) -> Preview:
        """Which database would be dropped. Read-only."""
        found = standing(self.context)
        would = f"drop the database {found.side}" if found.side else "nothing: there is no side database"
        return Preview(self.name, self.title, would=[would], undone_by="restoring the backup again")

    def purge(self, debt: str) -> Facts:
        """Drop the side database, if it is there. Changes the target."""
        name = standing(self.context).side
        if name:
            with self.context.postgres.connect(MAINTENANCE) as maintenance:
                side.drop(maintenance, name, force=True)
        self.paid(DEBT)
        return {"dropped": name}

    def _restore(self, live: str, name: str, checked: str) -> None:
        assert isinstance(self.spec, RestoreAsideStep)
        postgres, dump = self.context.postgres, self.context.dump.path
        with postgres.connect(MAINTENANCE) as maintenance:
            restoring = Restoring(self, maintenance, live, name, dump.name)
            tools = replace(self.context.dump_tools, hold=restoring.stands_still)
            side.restore_aside(postgres, tools, live, dump, checked, self.spec.jobs, self.stands_still)

    def _written_since(self, connection: Connection) -> str:
        database = self.context.plan.database
        touch = database.backfill.touch
        moment = self.context.dump.made + timedelta(seconds=1)  # the dump tells it to the second
        rows = side.written_since(connection, (database.schema_, database.table), touch, moment) if touch else None
        if rows is None:
            return "rows written since the backup: how many can be told once it is restored aside"
        return f"at least {rows} rows of {database.table} written since the backup, by {touch}; the full count follows"

    def _objects_not_in_backup(self) -> list[str]:
        """The objects of the live database that the backup does not name, a line each. Read-only."""
        try:
            live = self.context.dump_tools.objects(120)
        except AdapterError as error:
            return [f"objects made since the backup: cannot be told, {error.what}"]
        there = {_named(entry) for entry in self.context.dump.contents.entries}
        lost = {_named(entry) for entry in live if entry.kind != "COMMENT" and OWN_SCHEMA not in (entry.schema, entry.name)}
        return [f"not in the backup: {name}" for name in sorted(lost - there)]

    def _in_history(self, connection: Connection) -> bool:
        migration = self.context.plan.database.migration
        query = sql.SQL("SELECT count(*) AS n FROM {} WHERE {}::text = {}").format(
            sql.Identifier(self.context.plan.database.schema_, migration.history_table),
            sql.Identifier(migration.history_column),
            sql.Literal(migration.version),
        )
        return bool(one(connection, query)["n"])


def _named(entry: Entry) -> str:
    return f"{entry.kind} {entry.schema}.{entry.name}".replace(" -.", " ")
