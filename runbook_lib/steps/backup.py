"""The step that backs the database up before it is changed."""

from pathlib import Path

from runbook_lib.adapters.postgres.connection import one
from runbook_lib.adapters.postgres.dump import sha256
from runbook_lib.context import Context
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step

TIMEOUT = 3600.0


def path_of_backup(context: Context) -> Path:
    """Where a run's own backup goes. Read-only."""
    return Path(context.target.backups.directory) / f"before_rollback_{context.folder.id}.dump"


class Backup(Step):
    """Dump the whole database, read the dump back, and keep its hash."""

    @property
    def path(self) -> Path:
        """Where this run's backup goes."""
        return path_of_backup(self.context)

    def preview(self) -> Preview:
        """How large the database is and where the dump would go. Read-only."""
        with self.context.postgres.connect() as connection:
            size = one(connection, "SELECT pg_database_size(current_database()) AS bytes")["bytes"]
        return Preview(
            self.name,
            self.title,
            would=[f"dump the database ({size / 1e6:.0f} MB on disk) to {self.path} and read the dump back"],
            locks="ACCESS SHARE on every table while it runs",
            undone_by="nothing to undo: the dump is kept",
            estimate=self.spec.estimate,
        )

    def probe(self) -> Probe:
        """Whether this run's dump is there, whole and unchanged. Read-only."""
        if not self.path.exists():
            return Probe(Effect.NOT_DONE, "no dump of this run is there")
        known = self.context.outcomes.get(self.name, {}).get("sha256")
        if known is None:
            return Probe(Effect.HALF_DONE, "a dump is there that was not read back yet")
        if known != sha256(self.path):
            return Probe(Effect.UNKNOWN, f"the dump {self.path} is not the one that was written")
        return Probe(Effect.DONE, "the dump is there, with the hash on record")

    def apply(self) -> Facts:
        """Dump, read back and hash; a dump that is there already is not made again. Changes the target's backups only."""
        if not self.path.exists():
            self.context.dump_tools.dump(self.path, TIMEOUT)
        self.context.dump_tools.read_through(self.path, TIMEOUT)
        contents = self.context.dump_tools.contents(self.path)
        return {
            "file": str(self.path),
            "bytes": self.path.stat().st_size,
            "sha256": sha256(self.path),
            "tables": list(contents.tables_with_data),
        }

    def verify(self) -> list[Result]:
        """That the dump holds the data of the table to be changed. Read-only."""
        database = self.context.plan.database
        tables = self.context.dump_tools.contents(self.path).tables_with_data
        there = f"{database.schema_}.{database.table}" in tables
        return [
            self.result(
                "readable",
                "The backup can be read and holds the table",
                Status.PASS if there else Status.FAIL,
                f"{self.path.name} holds {len(tables)} tables with data" + ("" if there else f", but not {database.table}"),
            )
        ]

    def undo(self) -> Facts:
        """Nothing: a backup is kept. Read-only."""
        return {"kept": str(self.path)}
