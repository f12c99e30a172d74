"""Whether the feature's columns are gone as they should be, and nothing else with them."""

from collections.abc import Sequence

from runbook_lib.adapters.postgres.catalog import catalog
from runbook_lib.adapters.postgres.removal import Record, Removal, Stage, outcome
from runbook_lib.adapters.postgres.removal.snapshot import Snapshot
from runbook_lib.adapters.processes import shown
from runbook_lib.context import Context
from runbook_lib.redaction import redact
from runbook_lib.results import Result, Status

VALIDATION_TIMEOUT = 120.0


class RemovalChecks:
    """What is looked at after the step of that name; each look is a result."""

    def __init__(self, context: Context, removal: Removal, step: str) -> None:
        self.context = context
        self.database = context.plan.database
        self.removal = removal
        self.step = step

    def all(self) -> list[Result]:
        """Columns and history row are gone, all else is as before, and what was removed is kept. Read-only."""
        with self.removal.connect() as connection:
            state = self.removal.state(connection)
        with self.context.postgres.connect() as connection:
            now = catalog(connection)
        record, migration = state.record, self.database.migration
        left = outcome.left_over(now, self.database, record)
        rows = [f"{state.history} rows of migration {migration.version}"] if state.history else []
        found = [
            self._result("gone", "The feature's columns, indexes and constraints are gone", left, "they are"),
            self._result("history", "The migration is out of the history", rows, "it is"),
        ]
        if record:
            others = outcome.changed(record.catalog, now, self.database, record)
            found.append(self._result("catalog", "Nothing else of the schema changed", others, "all else is as before"))
        if record and record.stage is Stage.REMOVED:
            found.append(self._nothing_else(record))
            if not record.asides:
                found.append(self._kept(record))
        return found + self._validated()

    def _nothing_else(self, record: Record) -> Result:
        title, fingerprint = "No other column of any row changed", self.removal.fingerprint
        with self.removal.unhurried() as connection:
            found = fingerprint.differences(connection, without=[*self.database.columns, *record.asides.values()])
            if found is None:
                return Result(
                    f"{self.step}: proof", title, Status.UNKNOWN, "this run kept no fingerprints before the change"
                )
            rows = fingerprint.rows(connection)
        return self._result(
            "proof", title, found, f"the fingerprints of {rows} rows, made while nothing else wrote, are equal"
        )

    def _kept(self, record: Record) -> Result:
        with self.removal.connect() as connection:
            rows = Snapshot(self.database, self.removal.run, record.definitions).rows(connection)
        gone = ["the copy is gone"] if rows is None else []
        return self._result("kept", "The values of the dropped columns can be put back", gone, f"a copy holds {rows} rows")

    def _validated(self) -> list[Result]:
        """What the migration tool itself says of history and files, where the plan names its validator. Read-only."""
        migration = self.database.migration
        if migration.validate_ is None:
            return []
        done = self.context.processes.run(
            migration.validate_,
            cwd=self.context.checkout(migration.repository).path,
            timeout=VALIDATION_TIMEOUT,
            env={"PGSERVICE": self.context.target.database.service},
        )
        last = ((done.errors or done.output).strip().splitlines() or ["nothing"])[-1]
        said = f"{shown(done.command)} ended with {done.exit_code} and said: {redact(last)}"
        title = "The migration tool finds history and files in agreement"
        return [self._result("validator", title, [said] if done.exit_code else [], said)]

    def _result(self, suffix: str, title: str, bad: Sequence[str], good: str) -> Result:
        status, summary = (Status.FAIL, "; ".join(bad)) if bad else (Status.PASS, good)
        return Result(f"{self.step}: {suffix}", title, status, summary, {"found": list(bad)})
