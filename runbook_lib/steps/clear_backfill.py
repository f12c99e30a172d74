"""Option A: clear what the backfill wrote, and nothing else."""

import hashlib
import json

from runbook_lib.adapters.postgres.catalog import catalog
from runbook_lib.adapters.postgres.connection import Connection, identity
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.services import no_connections

BATCH = 5000  # rows a transaction


class ClearBackfill(Step):
    """Take the backfill's own elements out of each row that holds some, keeping all others in their order."""

    def preview(self) -> Preview:
        """How many rows would be changed, and what older code will not show. Read-only."""
        backfill, spec = self.context.backfill, self.context.plan.database.backfill
        with self.context.postgres.connect() as connection:
            here, rows = identity(connection), backfill.count(connection)
            kinds = {row["kind"]: row["rows"] for row in self.context.census.kinds(connection)}
            invisible = self.context.census.invisible(connection)
            shape = catalog(connection)
        edited = f"{kinds['edited since']} rows hold entries that were edited since the backfill: " + (
            "kept as they are" if spec.edited == "keep" else "cleared too"
        )
        touched = f"; {spec.touch} becomes the present time" if spec.touch else ""
        return Preview(
            self.name,
            self.title,
            would=[
                f"take the backfilled entries out of {rows} rows of {self.context.plan.database.table}{touched}",
                f"{kinds['backfilled and own']} of them keep entries of their own, in their order",
                edited,
            ],
            loses=[f"{number} rows: {what} (older code does not show it)" for what, number in invisible.items() if number],
            locks=f"row locks, {BATCH} rows a transaction",
            undone_by="undo rows, one for each changed row, committed with it",
            estimate=self.spec.estimate,
            facts={
                "server": here.system,
                "database": here.database,
                "catalog": hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest(),
                "edited": spec.edited,
            },
            volumes={"rows": rows},
        )

    def probe(self) -> Probe:
        """Whether anything is left to clear, and whether this run began. Read-only."""
        with self.context.postgres.connect() as connection:
            left, saved = self.context.backfill.count(connection), self.context.backfill.undo_rows(connection)
        if left and saved is not None:
            return Probe(Effect.HALF_DONE, f"{saved} rows are cleared, {left} are left")
        if left:
            return Probe(Effect.NOT_DONE, f"{left} rows hold backfilled entries")
        return Probe(
            Effect.DONE, "no backfilled entry is left" if saved is None else f"{saved} rows are cleared, none is left"
        )

    def preconditions(self) -> list[Result]:
        """That no connection of the application is left. Read-only."""
        return [no_connections(self.context, self.name)]

    def apply(self) -> Facts:
        """Fingerprint the table, then clear it batch by batch, each with its undo rows. Changes the target."""
        backfill = self.context.backfill
        with self.context.postgres.connect() as connection:
            backfill.prepare(connection)
            self.context.proof.record(connection)
            last = None
            while (batch := backfill.clear_batch(connection, last, BATCH)).rows:
                last = batch.last_key
            return {"rows": backfill.undo_rows(connection), "undo table": backfill.undo.as_string(connection)}

    def verify(self) -> list[Result]:
        """That nothing backfilled is left, and that nothing else changed. Read-only."""
        with self.context.postgres.connect() as connection:
            return [self._cleared(connection), self._nothing_else(connection)]

    def undo(self) -> Facts:
        """Put the old values back where nobody has changed them since. Changes the target."""
        with self.context.postgres.connect() as connection:
            restored, conflicts = self.context.backfill.restore(connection)
            if not conflicts:
                self.context.proof.forget(connection)
        return {"restored": restored, "conflicts": conflicts}

    def _cleared(self, connection: Connection) -> Result:
        left = self.context.backfill.count(connection)
        wrong = (
            self.context.backfill.unexpected(connection) if self.context.backfill.undo_rows(connection) is not None else 0
        )
        return self.result(
            "cleared",
            "No backfilled entry is left, and each changed row holds what was computed for it",
            Status.PASS if left == wrong == 0 else Status.FAIL,
            f"{left} rows with backfilled entries, {wrong} changed rows with another value",
        )

    def _nothing_else(self, connection: Connection) -> Result:
        title = "No other row and no other column of the table changed"
        if self.context.backfill.undo_rows(connection) is None:
            return self.result("proof", title, Status.PASS, "this run wrote nothing to the table")
        found = self.context.proof.differences(connection)
        if found is None:
            return self.result("proof", title, Status.UNKNOWN, "this run kept no fingerprints before the change")
        rows = self.context.proof.rows(connection)
        return self.result(
            "proof",
            title,
            Status.FAIL if found else Status.PASS,
            "; ".join(found) if found else f"the fingerprints of {rows} rows, made while nothing else wrote, are equal",
            differences=found,
        )
