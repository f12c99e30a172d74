"""The partial restore: one column, the missing rows of a table, or a missing table, and nothing else."""

from dataclasses import replace
from functools import cached_property
from typing import Literal

from psycopg import sql

from runbook_lib.checks.prerequisites import prerequisite
from runbook_lib.checks.restorable import SAME
from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.plan.steps import DATABASE, About, DatabaseStep, Identifier, Touches
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.backfill_terms import written_by_triggers
from runbook_lib.postgres.connection import identity
from runbook_lib.postgres.dependents import (
    TRIGGERS,
    cannot_keep_out,
    firing_line,
    objections,
    replicated,
    triggers,
    without_identity,
)
from runbook_lib.postgres.lock_budget import DROPPING, await_readable, milliseconds_paused
from runbook_lib.postgres.restore.dump_inspector import owners_not_ours
from runbook_lib.postgres.restore.dump_needs import left_out, sections, unmet
from runbook_lib.postgres.restore.part import Count, Part, Source
from runbook_lib.postgres.restore.part_kinds import ColumnPart, RowsPart, TablePart
from runbook_lib.postgres.restore.shape import tables
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.by_hand import Instruction, in_shell_at, in_words
from runbook_lib.steps.loss import approved_checksum, checksum

KINDS: dict[str, type[Part]] = {kind.name: kind for kind in (ColumnPart, RowsPart, TablePart)}


class RestorePartKeys(DatabaseStep):
    """Restore one column of a table from the backup, or the table's missing rows, or the missing table."""

    kind: Literal["restore_part"]
    table: Identifier
    """The table."""
    column: Identifier | None = None
    """One column of the table; without it, the missing rows or the whole table."""
    fill: Literal["missing", "differing"] = "missing"
    """Which rows of the column are written."""
    triggers: Literal["fire", "keep_out"] = "fire"
    """Whether triggers fire for written rows, or are kept from firing (TRIGGERS)."""

    requires = ("database",)
    about = About(
        title="Restore a part from the backup",
        estimate=60,
        does="Restores one column, the missing rows, or a missing table from the newest backup.",
        expect="The values of the backup are in the database again. Nothing else changed.",
        if_not="Read which rows could not be written. Apply the step again to resume, or undo it.",
        preserves="Every row's previous value is kept until you purge it.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes the data."""
        return Touches(changes=frozenset({DATABASE}))

    def after(self, state: State, rules: Rules) -> State:
        """Return the state unchanged."""
        return state


class RestorePart(Step):
    """Copy a part of the newest backup into the live database; all else stays as it is."""

    Keys = RestorePartKeys

    WORKS_IN_PARTS = True
    CHOICES = {
        "FILL": {
            "missing": "write only rows without a value in the column",
            "differing": "write every row whose value in the column differs from the backup",
        },
        "TRIGGERS": TRIGGERS,
    }

    _makes_keys = False

    @property
    def cleanup(self) -> str:
        """The cleanup item of the undo data."""
        return f"{self.name}-undo"

    @cached_property
    def piece(self) -> Part:
        """The part to restore: as approved, else what is missing now."""
        approved = self.approved.get("part")
        return self._part(KINDS[approved] if approved else self._missing())

    def preview(self) -> Preview:
        """Report how many rows would be written, and which stay. Read-only but for a temporary table of its session."""
        dump, part = self.context.dump, self._part(self._missing())
        with self.context.adapters.postgres.connect() as connection:
            here = identity(connection)
            others = replicated(connection, [sql.Identifier(*self._table).as_string(connection)])
        found = self._count(type(part))
        self._makes_keys = bool(found.keys)
        add = f"add the missing column {self.requested.column}; " if found.column_added else ""
        return Preview(
            self.name,
            self.title,
            would=[
                f"read {self.requested.table} from {dump.path} (made {dump.made:%Y-%m-%d %H:%M} UTC)"
                + ", through a temporary database, which is dropped afterwards" * part.makes_table,
                f"{add}{part.said(found.restored)}; the previous values are kept as undo rows",
                *(f"recreate the foreign key {key}" for key in found.keys),
                *(f"NOT recreate the foreign key {key}" for key in found.without),
                *(f"NOT create {each}" for each in self._left_out()),
                *_left(found.kept, "differ from the backup"),
                *_left(found.gone, "of the backup no longer exist"),
                *_left(found.newer, "came since the backup"),
                *self._of_triggers(part, found.restored),
                *others,
            ],
            loses=[f"up to {found.restored} values that differ from the backup's; they are kept as undo rows"]
            * (part.only == "differing"),
            locks=_locks(found),
            undone_by="restoring the previous values, except where somebody has written since",
            estimate=self.spec.estimate,
            facts={
                "server": here.system,
                "database": here.database,
                "dump": str(dump.path),
                "sha256": checksum(self.context, dump.path),
                "part": part.name,
                "table": self.requested.table,
                "column": self.requested.column or "",
                "fill": self.chosen("FILL"),
                **({"triggers": "keep_out"} if self._kept_out else {}),
            },
            volumes={"rows": found.restored, "left alone": found.kept},
        )

    def milliseconds_paused(self, preview: Preview) -> int:
        """Return how long it takes to recreate a foreign key for new rows only. Pure."""
        return milliseconds_paused(DROPPING) if self._makes_keys else 0

    def await_target(self) -> None:
        """Wait while a session blocks reads of the table. Read-only."""
        with self.control.listening(before=True):
            await_readable(self.context.adapters.postgres.connect, sql.Identifier(*self._table), self.control.waiting)

    def probe(self) -> Probe:
        """Report whether rows are missing and whether this run began. Read-only but for a temporary table of its session."""
        with self.context.adapters.postgres.connect() as connection:
            begun, finished, rows = (
                self.piece.begun(connection),
                self.piece.finished(connection),
                self.piece.undo_rows(connection),
            )
            there = tables(connection).get(self._table)
        if begun:
            return Probe(Effect.DONE if finished else Effect.HALF_DONE, f"{rows} rows are written")
        if there is None or (self.requested.column and self.requested.column not in there.names):
            return Probe(Effect.NOT_DONE, f"{self.requested.column or self.requested.table} is missing")
        if self.piece.makes_table:
            return Probe(Effect.DONE, f"the table {self.requested.table} exists, not made by this run")
        missing = self._count().restored
        return Probe(Effect.NOT_DONE if missing else Effect.DONE, f"{missing} rows must be written")

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return a command that extracts the rows from the backup; only the runbook can write the missing ones. Pure."""
        tools, table = self.context.adapters.dump_tools, self.requested.table
        file = self.context.folder.path / f"{table}-before.sql"
        taken = tools.command_to_take_rows(self.context.dump.path, *self._table, file)
        return [
            in_shell_at(None, taken, expect=f"exit code 0, and {file} holds the rows of {table} from the backup"),
            in_words(
                "The step compares each of these rows with the live table and writes only the missing ones: no script can "
                "know which those are. Load the file into a table of another name, and copy from there by the key.",
                "no row that users wrote since has changed",
            ),
        ]

    def needs(self) -> list[Precondition]:
        """The tools fit the server, the backup is of this database, and no trigger writes unnamed objects. Pure."""
        title = "Each trigger that fires is harmless or named in the plan"
        return [
            *(prerequisite(self.context, name) for name in ("tools", SAME)),
            self.need("triggers", title, When.BEFOREHAND, self._harmless),
            self.need("writable", "Rows of the table can be written", When.BEFOREHAND, self._writable),
            self.need("makeable", "The table can be created here as in the backup", When.BEFOREHAND, self._makeable),
        ]

    def apply(self) -> Facts:
        """Write what is missing, or resume that. Changes the target."""
        approved_checksum(self.context, self.name)
        self.reporter.open_cleanup(
            self.cleanup, f"the previous values of {self.requested.table} are kept for the undo until you purge them"
        )
        with self.control.listening():
            if self.piece.at_once:
                self.control.part(
                    0, self._predicted_rows, "all in one transaction, which cannot be paused; Abort rolls it back"
                )
            done = self.piece.take()
        with self.context.adapters.postgres.connect() as connection:
            rows = self.piece.undo_rows(connection)
        return {
            "rows": done.restored if self.piece.makes_table else rows,
            "column added": done.column_added,
            "left alone": done.kept,
            "not there any more": done.gone,
            "came since": done.newer,
            **({"foreign keys made again": list(done.keys)} if done.keys else {}),
            **({"foreign keys not made": list(done.without)} if done.without else {}),
        }

    def verify(self) -> list[Result]:
        """Check that everything that was missing is restored as in the backup. Read-only."""
        title = "Everything that was missing is restored as in the backup"
        with self.context.adapters.postgres.connect() as connection:
            begun, finished = self.piece.begun(connection), self.piece.finished(connection)
            altered = self.piece.altered(connection) if finished else 0
            rows = self.piece.undo_rows(connection)
        if not begun:
            missing = 0 if self.piece.makes_table else self._count().restored
            status = Status.FAIL if missing else Status.PASS
            return [self.result("restored", title, status, f"this run wrote nothing; {missing} rows must be written")]
        status = Status.PASS if finished and not altered else Status.FAIL
        text = f"{rows} rows written, {altered} of them not as in the backup"
        return [self.result("restored", title, status, text if finished else f"{rows} rows written, but not all")]

    def undo(self) -> Facts:
        """Restore the previous values, except where somebody has written since. Changes the target."""
        if why := self.cannot_undo():
            raise PreconditionError(
                f"{why}.",
                where=f"table {self.requested.table}",
                state="Nothing was changed.",
                safe_next="Restore the previous values from the backup that this run made.",
            )
        restored, conflicts = self.piece.give_back()
        if conflicts:
            self.reporter.open_cleanup(
                self.cleanup, f"undo rows of {conflicts} rows that someone changed since are kept until you purge them"
            )
        else:
            self.reporter.close_cleanup(self.cleanup)
        return {"put back": restored, "conflicts": conflicts}

    def undo_leaves(self) -> str:
        """Report that rows written since stay; only the undo counts them. Read-only."""
        return "rows that someone changed since keep their values; the undo counts them"

    def cannot_undo(self) -> str:
        """Report that its undo rows were purged, "" if they are kept. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            kept = self.piece.begun(connection)
        return "its undo rows were purged" if self.is_done and not kept else ""

    def purge_preview(self, item: str) -> Preview:
        """Show what is lost when the undo rows are purged. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            rows = self.piece.undo_rows(connection)
        return Preview(
            self.name,
            f"Purge the undo data of “{self.title}”",
            would=[f"drop the kept previous values of {rows} rows ({item})"],
            loses=["the previous values of those rows: afterwards the database itself cannot restore them"],
            undone_by="nothing",
            irreversible=True,
            facts={"debt": item},
            volumes={"rows": rows},
        )

    def purge(self, item: str) -> Facts:
        """Drop the undo rows permanently. Changes the target."""
        self.piece.purge()
        self.reporter.close_cleanup(item)
        return {"purged": item}

    @property
    def requested(self) -> RestorePartKeys:
        """The plan's keys of this step."""
        assert isinstance(self.spec, RestorePartKeys)
        return self.spec

    @property
    def _predicted_rows(self) -> int:
        return self.approved_rows

    @property
    def _table(self) -> tuple[str, str]:
        return self.context.plan.database.schema_, self.requested.table

    @property
    def _kept_out(self) -> bool:
        return self.chosen("TRIGGERS") == "keep_out"

    def _left_out(self) -> list[str]:
        """Return what a recreated table loses because this server lacks a role or another object for it. Read-only."""
        if not self._missing().makes_table:
            return []
        entries = sections(self.context.dump.contents.schema)
        of_table = {each.number for each in entries if each.kind == "TABLE" and each.name == self.requested.table}
        with self.context.adapters.postgres.connect() as connection:
            return [str(each) for each in left_out(entries, unmet(connection, entries))[0] if each.rests_on & of_table]

    def _makeable(self) -> Found:
        if not self._missing().makes_table:
            return Status.PASS, "it exists here"
        entries = sections(self.context.dump.contents.schema)
        with self.context.adapters.postgres.connect() as connection:
            without, lacks = left_out(entries, unmet(connection, entries))
            gone = {each.number for each in without}
            owners = sorted({each.owner for each in entries if each.owner and each.number not in gone})
            strange = owners_not_ours(connection, owners)
        lines = [
            *map(str, lacks),
            *(f"the backup names the owner {name}, and our role is not a member of it" for name in strange),
        ]
        if not lines:
            return Status.PASS, "it can"
        return (Status.UNKNOWN if all(each.unknown for each in lacks) and not strange else Status.FAIL), "; ".join(lines)

    def _writable(self) -> Found:
        with self.context.adapters.postgres.connect() as connection:
            lines = without_identity(connection, [sql.Identifier(*self._table).as_string(connection)])
        return (Status.FAIL, "; ".join(lines)) if lines else (Status.PASS, "no publication prevents it")

    def _harmless(self) -> Found:
        kind = self._missing()
        if kind.makes_table:
            return Status.PASS, "none does: the table does not exist"
        table, columns = sql.Identifier(*self._table), [self.requested.column] if self.requested.column else []
        with self.context.adapters.postgres.connect() as connection:
            fired = triggers(connection, table, kind.fires, self.context.folder.short, kept_out=self._kept_out)
            lines = cannot_keep_out(connection, table, kind.fires, columns) if self._kept_out else []
        lines += objections(fired, columns, None, self.context.plan.database.triggers)
        return (Status.FAIL, "; ".join(lines)) if lines else (Status.PASS, "none has an effect outside the plan")

    def _of_triggers(self, part: Part, rows: int) -> list[str]:
        """Return one line on the triggers that fire, or are kept from firing, and for how many rows. Read-only."""
        if part.makes_table or not rows:
            return []
        table, written = sql.Identifier(*self._table), {self.requested.column}
        with self.context.adapters.postgres.connect() as connection:
            found = triggers(connection, table, part.fires, self.context.folder.short)
        return firing_line(
            [each for each in found if not each.columns or written & {*each.columns}], rows, kept_out=self._kept_out
        )

    def _count(self, kind: type[Part] | None = None) -> Count:
        """Return the counts of the restore, computed once for each look at the step."""
        if kind is None:
            return self._count(self._missing())
        if kind not in self._counts:
            self._counts[kind] = self._part(kind).count()
        return self._counts[kind]

    @cached_property
    def _counts(self) -> dict[type[Part], Count]:
        return {}

    def _missing(self) -> type[Part]:
        if self.requested.column:
            return ColumnPart
        with self.context.adapters.postgres.connect() as connection:
            return RowsPart if self._table in tables(connection) else TablePart

    def _part(self, kind: type[Part]) -> Part:
        written = 0

        def report(rows: int) -> None:
            nonlocal written
            written += rows
            self.control.part(written, self._predicted_rows)

        tools = replace(self.context.adapters.dump_tools, hold=self.control.is_paused)
        allowed = written_by_triggers(self.context.plan.database)
        source = Source(
            replace(self.context.adapters.postgres, keeps_triggers_out=self.approved.get("triggers") == "keep_out"),
            tools,
            self.context.dump,
            self.reporter.waiting,
            report,
            self.control.must_pause,
            allowed,
        )
        if kind is ColumnPart and self.requested.column:
            only: Literal["missing", "differing"] = "differing" if self.chosen("FILL") == "differing" else "missing"
            return ColumnPart(source, self._table, self.requested.column, only)
        return kind(source, self._table)


def _left(rows: int, which: str) -> list[str]:
    return [f"leave {rows} rows unchanged that {which}"] if rows else []


def _locks(found: Count) -> str:
    if found.column_added:
        return "ACCESS EXCLUSIVE for a moment"
    if found.keys:
        return "SHARE ROW EXCLUSIVE for a moment on the tables whose foreign keys are recreated"
    return "row locks on the written rows, some at a time"
