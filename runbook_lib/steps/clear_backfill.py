"""Option A: clear what the backfill wrote, and nothing else."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property

from runbook_lib import strategies
from runbook_lib.adapters.postgres.backfill import Backfill, Bounds
from runbook_lib.adapters.postgres.clearing import approved, former
from runbook_lib.adapters.postgres.clearing.clearing import Clearing, Told
from runbook_lib.adapters.postgres.clearing.indexes import Indexes
from runbook_lib.adapters.postgres.clearing.records import Records
from runbook_lib.adapters.postgres.clearing.unused import unscanned
from runbook_lib.adapters.postgres.clone import Clone
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.proof import Proof
from runbook_lib.parts import Wanted
from runbook_lib.plan import ClearBackfillStep
from runbook_lib.results import Result, Status
from runbook_lib.steps import clear_bounds, clear_checks, clear_preview, decisions, trial
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.services import no_connections

UNDO_ROWS = "undo-rows"  # a debt
MOST_CONFLICTS = 100  # keys that are told one by one


class ClearBackfill(Step):
    """Take the backfill's own elements out of each row that holds some, keeping all others in their order."""

    WORKS_IN_PARTS = True
    CHOICES: Mapping[str, Mapping[str, str]] = {
        "STRATEGY": strategies.STRATEGIES,
        "EDITED": {
            "keep": "entries that users edited since the backfill stay",
            "clear": "entries that users edited since the backfill go too",
            "list": f"decided row by row, in {decisions.FILE}",
        },
    }

    def default(self, choice: str) -> str:
        """What the plan says where the engineer does not choose. Read-only."""
        return self.context.plan.database.backfill.edited if choice == "EDITED" else super().default(choice)

    @property
    def stopped(self) -> bool:
        """Whether nobody else is to use the table meanwhile."""
        assert isinstance(self.spec, ClearBackfillStep)
        return not self.spec.live

    @cached_property
    def backfill(self) -> Backfill:
        """What is to be cleared, with what was decided of edited entries."""
        plain = self.context.backfill
        if plain.database.backfill.edited != "list":
            return plain
        with self.context.postgres.connect() as connection:
            decisions.write(self.context.folder, self.context.census.edited(connection))
        return plain.bound(Bounds(decided=decisions.read(self.context.folder).clear))

    @contextmanager
    def looking(self) -> Iterator[Connection]:
        """A connection to look at the table; while others use it, what is looked at does not scan the column's indexes."""
        with self.context.postgres.connect() as connection, nullcontext() if self.stopped else unscanned(connection):
            yield connection

    def preview(self) -> Preview:
        """How many rows would be changed and how, and what older code will not show. Read-only."""
        found, self._previewed = clear_preview.preview(self, self.backfill)
        return found

    def tried(self, preview: Preview) -> Result | None:
        """Clear a schema-only clone by the strategy, and take that back. Changes nothing in the target's database."""
        strategy = str(preview.facts["strategy"])
        with self.context.postgres.connect() as connection:
            begun = Records(self.backfill).exist(connection)
        if begun or strategy == "keyed":  # keys are cleared without any DDL on the table
            return None

        def there_and_back(clone: Clone) -> None:
            with clone.connect() as connection:
                Records(self.backfill).prepare(connection)
                former.prepare(connection, self.backfill)
                indexes = [index.name for index in Indexes(self.backfill).present(connection)]
            clearing = Clearing(clone.connect, self.backfill, strategy, self.stopped)
            clearing.apply(indexes)
            clearing.undo()

        return trial.tried(self.context, f"{strategy} and undo", there_and_back)

    def probe(self) -> Probe:
        """Whether anything is left to clear, and whether this run began. Read-only."""
        clearing = self._clearing(self.backfill)
        with self.looking() as connection:
            left, begun = self.backfill.count(connection), clearing.begun(connection)
            unfinished = Indexes(self.backfill).missing(connection)
            saved = clearing.rows(connection) if begun else 0
        if unfinished:
            return Probe(
                Effect.HALF_DONE, f"{saved} rows are cleared, {left} are left; to be made anew: {', '.join(unfinished)}"
            )
        if left and begun:
            return Probe(Effect.HALF_DONE, f"{saved} rows are cleared, {left} are left")
        if left:
            return Probe(Effect.NOT_DONE, f"{left} rows hold backfilled entries")
        return Probe(Effect.DONE, f"{saved} rows are cleared, none is left" if begun else "no backfilled entry is left")

    def preconditions(self) -> list[Result]:
        """That the strategy can be, edited entries are decided, and the application is disconnected. Read-only."""
        found = [no_connections(self.context, self.name)] if self.stopped else []
        chosen = clear_preview.choice(self, self.backfill)
        refused = chosen.refused.get(chosen.strategy)
        found.append(
            self.result(
                "strategy",
                "The strategy is possible here",
                Status.FAIL if refused else Status.PASS,
                f"{chosen.strategy}: {refused or chosen.because}",
            )
        )
        if self.backfill.database.backfill.edited == "list":
            undecided = decisions.read(self.context.folder).undecided
            status = Status.FAIL if undecided else Status.PASS
            text = f"{undecided} rows of {decisions.FILE} have no decision"
            found.append(self.result("decided", "Edited entries are decided", status, text))
        return found

    def apply(self) -> Facts:
        """Fingerprint the table, then clear it by the strategy chosen. Changes the target."""
        with self.looking() as connection:
            records = Records(self.backfill)
            records.prepare(connection)
            records.want(connection, "go on")  # whatever ended the try before
            clear_bounds.load_former(self, connection)
            bound, left_out = clear_bounds.bounded(self, connection, self._previewed)
            clearing = self._clearing(bound)
            if self.stopped:
                clearing.proof.record(connection)
            unused = clear_bounds.unused_indexes(self, connection, clearing)
        clearing.apply(unused)
        with self.context.postgres.connect() as connection:
            return {
                "rows": clearing.rows(connection),
                "strategy": clearing.strategy,
                "proof": "stopped" if self.stopped else "live",
                "not approved, so left alone": left_out,
            }

    def verify(self) -> list[Result]:
        """That nothing approved is left, and that no more changed than was computed. Read-only."""
        with self.context.postgres.connect() as connection:
            clearing = self._clearing(self.backfill)
            return [
                clear_checks.cleared(self, clearing, connection),
                clear_checks.nothing_else(self, clearing, connection),
            ]

    def undo(self) -> Facts:
        """Put the old values back where nobody has changed them since. Changes the target."""
        restored, conflicts = self._clearing(self.backfill).undo()
        with self.context.postgres.connect() as connection:
            if not conflicts:
                self._proof.forget(connection)
        if conflicts:
            self.owe(
                UNDO_ROWS, f"what is known of {len(conflicts)} rows that someone changed since is kept until it is purged"
            )
        for debt in ("old-column", *([] if conflicts else [UNDO_ROWS])):
            self.paid(debt)
        return {"restored": restored, "conflicts": len(conflicts), "keys of conflicts": conflicts[:MOST_CONFLICTS]}

    def steer(self, wanted: Wanted) -> bool:
        """Have the clearing pause, go on or end before its next batch. Changes the runbook's own table."""
        records = Records(self.context.backfill)
        with self.context.postgres.connect() as connection:
            under_way = records.exist(connection)
            if under_way:
                records.want(connection, wanted)
        return under_way

    def purge_preview(self, debt: str) -> Preview:
        """What giving up the way back destroys. Read-only."""
        with self.context.postgres.connect() as connection:
            rows = self._clearing(self.backfill).rows(connection)
        return Preview(
            self.name,
            f"Give up the way back of “{self.title}”",
            would=[f"drop what is kept of the old values of {rows} rows ({debt})"],
            loses=[f"the old values of {rows} rows: afterwards nothing can be put back from the database itself"],
            locks="ACCESS EXCLUSIVE for a moment" if debt == "old-column" else "none on the table",
            undone_by="nothing: this cannot be undone",
            facts={"debt": debt},
            volumes={"rows": rows},
        )

    def purge(self, debt: str) -> Facts:
        """Drop the old column or the undo rows, for good. Changes the target."""
        self._clearing(self.backfill).purge()
        with self.context.postgres.connect() as connection:
            self._proof.forget(connection)
        self.paid(debt)
        return {"purged": debt}

    _previewed: approved.Keys | None = None

    @property
    def _proof(self) -> Proof:
        return self._clearing(self.backfill).proof

    def _clearing(self, backfill: Backfill) -> Clearing:
        agreed = self.context.approved.get(self.name, {}).get("strategy")
        return Clearing(self.context.postgres.connect, backfill, agreed or "keyed", self.stopped, self._told())

    def _told(self) -> Told:
        total = self.context.approved_volumes.get(self.name, {}).get("rows", 0)
        done, lock = 0, threading.Lock()

        def cleared(rows: int, why: str) -> None:
            nonlocal done
            with lock:
                done += rows
                if rows or why:
                    self.progress(done, total, why)

        return Told(cleared, self.waiting, self.owe, self.paid)
