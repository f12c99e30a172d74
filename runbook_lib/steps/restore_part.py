"""The smaller restore: one column, the missing rows of a table, or a table that is gone, and nothing else."""

from dataclasses import replace
from functools import cached_property
from typing import Literal

from runbook_lib.adapters.postgres.connection import identity
from runbook_lib.adapters.postgres.restore.part import Count, Part, Source
from runbook_lib.adapters.postgres.restore.part_column import ColumnPart
from runbook_lib.adapters.postgres.restore.part_rows import RowsPart
from runbook_lib.adapters.postgres.restore.part_table import TablePart
from runbook_lib.adapters.postgres.restore.shape import tables
from runbook_lib.checks.prerequisites import looked
from runbook_lib.plan import RestorePartStep
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.loss import approved_checksum, checksum

Kind = Literal["column", "rows", "table"]


class RestorePart(Step):
    """Take a part of the newest backup into the live database; all else stays as it is."""

    WORKS_IN_PARTS = True
    CHOICES = {
        "FILL": {
            "missing": "of a column, only rows without a value are written",
            "differing": "of a column, every row is written that holds another value than the backup",
        }
    }

    @property
    def debt(self) -> str:
        """What the way back is called while it is kept."""
        return f"{self.name}-undo"

    @cached_property
    def piece(self) -> Part:
        """What is restored: as approved, else what is missing now."""
        return self._part(self.context.approved.get(self.name, {}).get("part") or self._missing())

    def preview(self) -> Preview:
        """How many rows would be written, and which are left alone. Read-only but for a temporary table of its session."""
        dump, kind = self.context.dump, self._missing()
        with self.context.postgres.connect() as connection:
            here = identity(connection)
        found = self._count(kind)
        what = {
            "column": f"{found.restored} rows get their value of {self.wanted.column} back",
            "rows": f"{found.restored} rows come back",
            "table": f"the table comes back with {found.restored} rows, its indexes, constraints and triggers",
        }[kind]
        add = f"add the column {self.wanted.column}, which is not there; " if found.column_added else ""
        replaces = kind == "column" and self.chosen("FILL") == "differing"
        return Preview(
            self.name,
            self.title,
            would=[
                f"read {self.wanted.table} out of {dump.path} (made {dump.made:%Y-%m-%d %H:%M} UTC)"
                + ", by way of a database of its own, which is gone afterwards" * (kind == "table"),
                f"{add}{what}; what was there before is kept as undo rows",
                *(f"make the foreign key {key} again" for key in found.keys),
                *(f"NOT make the foreign key {key}" for key in found.without),
                *_left(found.kept, "hold something else than the backup"),
                *_left(found.gone, "of the backup are not there any more"),
                *_left(found.newer, "came since the backup"),
            ],
            loses=[f"up to {found.restored} values that differ from the backup's; they are kept as undo rows"] * replaces,
            locks=_locks(found),
            undone_by="putting back what was there, where nobody has written since",
            estimate=self.spec.estimate,
            facts={
                "server": here.system,
                "database": here.database,
                "dump": str(dump.path),
                "sha256": checksum(self.context, dump.path),
                "part": kind,
                "table": self.wanted.table,
                "column": self.wanted.column or "",
                "fill": self.chosen("FILL"),
            },
            volumes={"rows": found.restored, "left alone": found.kept},
        )

    def probe(self) -> Probe:
        """Whether anything is missing, and whether this run began. Read-only but for a temporary table of its session."""
        with self.context.postgres.connect() as connection:
            begun, finished, rows = (
                self.piece.begun(connection),
                self.piece.finished(connection),
                self.piece.undo_rows(connection),
            )
            there = tables(connection).get(self._table)
        if begun:
            return Probe(Effect.DONE if finished else Effect.HALF_DONE, f"{rows} rows are written")
        if there is None or (self.wanted.column and self.wanted.column not in there.names):
            return Probe(Effect.NOT_DONE, f"{self.wanted.column or self.wanted.table} is not there")
        if isinstance(self.piece, TablePart):
            return Probe(Effect.DONE, f"the table {self.wanted.table} is there, not by this run")
        missing = self._count().restored
        return Probe(Effect.NOT_DONE if missing else Effect.DONE, f"{missing} rows are to be written")

    def preconditions(self) -> list[Result]:
        """That the tools are the server's. Read-only."""
        return [looked(self.context, "tools")]

    def apply(self) -> Facts:
        """Write what is missing, or go on with it. Changes the target."""
        approved_checksum(self.context, self.name)
        self.owe(self.debt, f"what {self.wanted.table} held before is kept as the way back until it is purged")
        with self.in_parts():
            if isinstance(self.piece, RowsPart):
                self.part(0, self._foretold, "all in one transaction, which cannot be paused; Abort has it rolled back")
            done = self.piece.take()
        with self.context.postgres.connect() as connection:
            rows = self.piece.undo_rows(connection)
        return {
            "rows": done.restored if isinstance(self.piece, TablePart) else rows,
            "column added": done.column_added,
            "left alone": done.kept,
            "not there any more": done.gone,
            "came since": done.newer,
            **({"foreign keys made again": list(done.keys)} if done.keys else {}),
            **({"foreign keys not made": list(done.without)} if done.without else {}),
        }

    def verify(self) -> list[Result]:
        """That all that was missing is there, as the backup has it. Read-only."""
        title = "What was missing is there, as the backup has it"
        with self.context.postgres.connect() as connection:
            begun, finished = self.piece.begun(connection), self.piece.finished(connection)
            altered = self.piece.altered(connection) if finished else 0
            rows = self.piece.undo_rows(connection)
        if not begun:
            missing = 0 if isinstance(self.piece, TablePart) else self._count().restored
            status = Status.FAIL if missing else Status.PASS
            return [self.result("restored", title, status, f"this run wrote nothing; {missing} rows are to be written")]
        status = Status.PASS if finished and not altered else Status.FAIL
        text = f"{rows} rows written, {altered} of them not as in the backup"
        return [self.result("restored", title, status, text if finished else f"{rows} rows written, and not all")]

    def undo(self) -> Facts:
        """Put back what was there, where nobody has written since. Changes the target."""
        restored, conflicts = self.piece.give_back()
        if conflicts:
            self.owe(self.debt, f"undo rows of {conflicts} rows that someone changed since are kept until they are purged")
        else:
            self.paid(self.debt)
        return {"put back": restored, "conflicts": conflicts}

    def purge_preview(self, debt: str) -> Preview:
        """What giving up the way back destroys. Read-only."""
        with self.context.postgres.connect() as connection:
            rows = self.piece.undo_rows(connection)
        return Preview(
            self.name,
            f"Give up the way back of “{self.title}”",
            would=[f"drop what is kept of {rows} rows as they were ({debt})"],
            loses=["what those rows held before: afterwards nothing can be put back from the database itself"],
            undone_by="nothing: this cannot be undone",
            facts={"debt": debt},
            volumes={"rows": rows},
        )

    def purge(self, debt: str) -> Facts:
        """Drop the undo rows, for good. Changes the target."""
        self.piece.purge()
        self.paid(debt)
        return {"purged": debt}

    @property
    def wanted(self) -> RestorePartStep:
        """The plan's words on it."""
        assert isinstance(self.spec, RestorePartStep)
        return self.spec

    @property
    def _foretold(self) -> int:
        return self.context.approved_volumes.get(self.name, {}).get("rows", 0)

    @property
    def _table(self) -> tuple[str, str]:
        return self.context.plan.database.schema_, self.wanted.table

    def _count(self, kind: Kind | None = None) -> Count:
        """What restoring it would come to; counted once for each time that the step is looked at."""
        if kind is None:
            return self._count(self._missing())
        if kind not in self._counts:
            self._counts[kind] = self._part(kind).count()
        return self._counts[kind]

    @cached_property
    def _counts(self) -> dict[Kind, Count]:
        return {}

    def _missing(self) -> Kind:
        if self.wanted.column:
            return "column"
        with self.context.postgres.connect() as connection:
            return "rows" if self._table in tables(connection) else "table"

    def _part(self, kind: Kind) -> Part:
        written = 0

        def tell(rows: int) -> None:
            nonlocal written
            written += rows
            self.part(written, self._foretold)

        tools = replace(self.context.dump_tools, hold=self.is_paused)
        source = Source(self.context.postgres, tools, self.context.dump, self.waiting, tell, self.stands_still)
        if kind == "column" and self.wanted.column:
            only: Literal["missing", "differing"] = "differing" if self.chosen("FILL") == "differing" else "missing"
            return ColumnPart(source, self._table, self.wanted.column, only)
        return RowsPart(source, self._table) if kind == "rows" else TablePart(source, self._table)


def _left(rows: int, which: str) -> list[str]:
    return [f"leave {rows} rows alone that {which}"] if rows else []


def _locks(found: Count) -> str:
    if found.column_added:
        return "ACCESS EXCLUSIVE for a moment"
    if found.keys:
        return "SHARE ROW EXCLUSIVE for a moment on the tables whose foreign keys are made again"
    return "the rows that are written, some at a time"
