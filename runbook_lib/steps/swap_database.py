"""Option C, second half: put the restored staging database in the place of the live one."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from runbook_lib.config.compatibility import BEFORE, Rules, State
from runbook_lib.config.plan.steps import DATABASE, RESTORED, About, DatabaseStep, Touches
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, catalog
from runbook_lib.postgres.blockers import behind
from runbook_lib.postgres.catalog import database_size
from runbook_lib.postgres.connection import MAINTENANCE, identity
from runbook_lib.postgres.fence import outranks
from runbook_lib.postgres.lock_budget import LONGEST_PAUSE_MS
from runbook_lib.postgres.restore import cutover, staging_database
from runbook_lib.postgres.restore.diff import Ledger, compare
from runbook_lib.postgres.restore.difference_kinds import CARRIED, Kind
from runbook_lib.postgres.restore.export import Outcome
from runbook_lib.postgres.restore.migrated import forget
from runbook_lib.postgres.restore.shape import written
from runbook_lib.postgres.restore.staging_database import StagingState
from runbook_lib.postgres.sessions import Session, end, of_database
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.by_hand import Instruction, fed, in_shell, in_words
from runbook_lib.steps.loss import (
    LEDGER,
    applied,
    applied_before,
    beyond,
    checksum,
    compared,
    count,
    exported,
    is_exported,
    keep,
    ledger,
    numbers,
    predict,
    predicted,
    seconds_compared,
    staging_state_of,
    unknown,
    watching,
)
from runbook_lib.steps.restore_staging import CLEANUP as STAGED

ISSUED = "evidence/sequences-issued.json"  # last value of each sequence when the names were exchanged
OLD, CLOSED = "old-database", "refused-connections"  # items of cleanup


class Exchange(Step):
    """A step that exchanges the names of two databases."""

    DUE_AT_ONCE = {**Step.DUE_AT_ONCE, CLOSED: ""}

    def milliseconds_paused(self, preview: Preview) -> int:
        """Return the time limit of the exchange, plus the work before it in the same pause. Pure."""
        return int(1000 * (2 * cutover.GRACE + self.seconds_paused_before))

    @property
    def seconds_paused_before(self) -> float:
        """Return how long pooler clients wait for the work behind the fence, before the exchange of names. Read-only."""
        return 0.0

    @property
    def names(self) -> tuple[str, str]:
        """The restored database's name before the swap, and the old one's name after it."""
        live, run = self.context.adapters.postgres.database, self.context.adapters.postgres.run
        return staging_database.staging_name(live, run), staging_database.kept_name(live, run, datetime.now(UTC).date())

    def cut_over(self, holder: Connection, incoming: str, outgoing: str, *, adopt: bool) -> float:
        """Exchange the names; with `adopt`, give the old database's settings and grants to the new one.

        Return the seconds for which nobody could connect. Changes the target.
        """
        context, live = self.context, self.context.adapters.postgres.database
        with context.adapters.postgres.connect(incoming) as target:
            cutover.carry_records(context.adapters.dump_tools, holder, target, context.adapters.scratch)
            context.adapters.lease.check(holder)  # its table is locked now, so nobody can take over before the cut-over

            def last() -> None:
                values = catalog.issued(holder)
                context.folder.write_json(ISSUED, values)
                catalog.raise_sequences(values, target)
                target.close()

            def renamed(maintenance: Connection) -> None:
                if adopt:
                    cutover.copy_settings(maintenance, cutover.attributes(maintenance, outgoing), live)
                else:
                    staging_database.mark(maintenance, outgoing, context.adapters.postgres.run, self.approved["sha256"])

            self.reporter.open_cleanup(
                CLOSED, f"The database {live} refuses connections during the exchange of names; let them in again."
            )
            try:
                with self._paused(holder):
                    return cutover.cut_over(
                        context.adapters.postgres,
                        live,
                        incoming,
                        outgoing,
                        holder,
                        last=last,
                        renamed=renamed,
                        ended=self._tell,
                    )
            finally:
                self.settle(staging_state_of(context))

    def bring_records(self, incoming: str) -> None:
        """Copy the runbook's records into the new database before anybody waits for it. Changes that database."""
        postgres, tools = self.context.adapters.postgres, self.context.adapters.dump_tools
        with postgres.connect() as live, postgres.connect(incoming) as target:
            cutover.bring_records(tools, live, target, self.context.adapters.scratch)

    def opened(self) -> staging_database.StagingState:
        """Let connections in if the live database refuses them, and return the state. May change the target."""
        found = staging_state_of(self.context)
        if not found.lets_in:
            with self.context.adapters.postgres.connect(MAINTENANCE) as maintenance:
                cutover.let_in(maintenance, found.live, True)
            self.reporter.close_cleanup(CLOSED)
        return found

    def purge_preview(self, item: str) -> Preview:
        """Show which database would be dropped, with its size and date. Read-only."""
        kept = staging_state_of(self.context).kept
        if item == CLOSED or not kept:
            would = "let connections in" if item == CLOSED else "nothing: no old database exists"
            return Preview(self.name, self.title, would=[would])
        with self.context.adapters.postgres.connect(MAINTENANCE) as maintenance:
            size = database_size(maintenance, kept)
        return Preview(
            self.name,
            self.title,
            would=[f"drop the database {kept} ({size / 1e6:.0f} MB), as it was at the swap on the date in its name"],
            loses=["the old database, permanently: afterwards the swap cannot be undone, and no row salvaged from it"],
            undone_by="nothing",
            irreversible=True,
            facts={"database": kept},
        )

    def purge(self, item: str) -> Facts:
        """Drop the old database permanently, or let connections in again. Changes the target.

        Raises:
            AdapterError: Somebody is connected to it.
        """
        found = staging_state_of(self.context)
        if item == CLOSED:
            self.opened()
            return {"lets in": found.live}
        if found.kept:
            with self.context.adapters.postgres.connect(MAINTENANCE) as maintenance:
                staging_database.drop(maintenance, found.kept)
            with self.context.adapters.postgres.connect() as connection:
                forget(connection, self.context.folder.short)
        self.reporter.close_cleanup(OLD)
        return {"dropped": found.kept}

    def settle(self, found: staging_database.StagingState) -> None:
        """Close the cleanup items that are no longer pending in this state."""
        for item, is_closed in ((CLOSED, found.lets_in), (STAGED, not found.staging), (OLD, not found.kept)):
            if is_closed and item in self.reporter.pending():
                self.reporter.close_cleanup(item)

    @contextmanager
    def _paused(self, holder: Connection) -> Iterator[None]:
        """Pause pooler clients, if not yet paused; end sessions that wait for our locks, which the cut-over would end."""
        with self.context.adapters.postgres.connect(MAINTENANCE) as connection:

            def end_those_behind() -> None:
                pids = behind(connection, holder.info.backend_pid)
                found = [each for each in of_database(connection, holder.info.dbname) if each.pid in pids]
                end(connection, found)
                self._tell(found)

            with self.context.adapters.pausing(end_those_behind):
                yield

    def _tell(self, ended: list[Session]) -> None:
        if ended:
            self.reporter.append("sessions-ended", step=self.name, sessions=[str(session) for session in ended])


class CheckedExchange(Exchange):
    """A cut-over with its checks, and the choice that they depend on."""

    CHOICES = {
        "SALVAGE": {
            "nothing": "rows written since the backup stay in the old database, and are exported",
            "carry": "rows written since the backup are carried over",
        }
    }

    @property
    def seconds_paused_before(self) -> float:
        """Return the estimated time of the last comparison, if it is short and carries nothing over. Read-only."""
        seconds = seconds_compared(self.context)
        return 0.0 if self.carries or seconds > LONGEST_COMPARISON else seconds

    @property
    def carries(self) -> bool:
        """Whether rows written since the backup are carried over."""
        return self.chosen("SALVAGE") == "carry"

    @property
    def approved_apart(self) -> tuple[Kind, ...]:
        """The kinds of row that are not lost, so an approval need not bind their number."""
        return CARRIED if self.carries else ()

    def needs(self) -> list[Precondition]:
        """The new database is complete, the loss is known, and every connected session can be ended. Pure."""

        def whole(found: StagingState) -> Found:
            if found.restored_from == checksum(self.context, self.context.dump.path):
                return Status.PASS, f"{found.staging} is complete"
            return Status.FAIL, "no complete staging database exists"

        def known(_: StagingState) -> Found:
            if missing := unknown(self.context, ledger(self.context)):
                return Status.UNKNOWN, "; ".join(f"{what}: {why}" for what, why in missing.items())
            return Status.PASS, f"every table is compared: {LEDGER}"

        def weak(found: StagingState) -> Found:
            with self.context.adapters.postgres.connect(MAINTENANCE) as maintenance:
                strong = [str(s) for s in of_database(maintenance, found.live) if outranks(maintenance, s.user)]
            if strong:
                return Status.FAIL, f"superusers' sessions: {'; '.join(strong)}"
            return Status.PASS, "no superuser is connected"

        return [
            self.need(
                "restored",
                "The whole backup is restored to the staging database",
                When.AT_THE_STEP,
                self._before_the_cut_over(whole),
            ),
            self.need("loss", "The loss is known", When.AT_THE_STEP, self._before_the_cut_over(known)),
            self.need(
                "sessions", "Our role may end every session there is", When.BEFOREHAND, self._before_the_cut_over(weak)
            ),
        ]

    def _before_the_cut_over(self, look: Callable[[StagingState], Found]) -> Callable[[], Found]:
        """Wrap a look so that it passes after the cut-over."""

        def looked() -> Found:
            found = staging_state_of(self.context)
            return (Status.PASS, "the names are exchanged") if found.kept else look(found)

        return looked

    def verify(self) -> list[Result]:
        """Check that everything bound to the name followed it, and that the loss is as predicted. Read-only."""
        found = staging_state_of(self.context)
        self.settle(found)
        if not found.kept:
            return [self.result("loss", "The loss is as predicted", Status.UNKNOWN, "no old database exists")]
        with self.context.adapters.postgres.connect(MAINTENANCE) as maintenance:
            attributes = [cutover.attributes(maintenance, name) for name in (found.kept, found.live)]
        unlike = cutover.differing_settings(*attributes)
        with self.context.adapters.postgres.connect(found.kept) as old, self.context.adapters.postgres.connect() as new:
            values = self.context.folder.read_json(ISSUED)
            behind = catalog.behind(catalog.issued(old) if values is None else values, new)
        expected = predicted(self.context)
        kinds = CARRIED if self.carries else tuple(Kind)
        actual = compare(expected, count(self.context, found.kept, found.live), kinds)
        return [
            self.result(
                "attributes",
                "Owner, settings, grants, comment and limit followed the name",
                Status.FAIL if unlike else Status.PASS,
                "; ".join(unlike) or "they are equal to those of the old database",
            ),
            self.result(
                "sequences",
                "No sequence would issue a value twice",
                Status.FAIL if behind else Status.PASS,
                f"behind: {', '.join(map(written, behind))}" if behind else "each is at least as far as in the old database",
            ),
            self.result(
                "loss",
                "The loss is as predicted",
                Status.FAIL if actual else Status.PASS,
                "; ".join(actual) or f"{'; '.join(f'{n} {what}' for what, n in numbers(expected).items()) or 'no row'}",
            ),
        ]


LONGEST_COMPARISON = (
    LONGEST_PAUSE_MS / 1000
)  # seconds of the previous comparison from which on pooler clients do not wait for the last one
NOT_MADE = "not made yet: restore the backup first, then preview and approve again"


class SwapDatabaseKeys(DatabaseStep):
    """Give the live database's name to the restored one."""

    kind: Literal["swap_database"]
    salvage: Literal["carry", "nothing"] = "nothing"
    """What happens to rows written since the backup."""

    requires = ("database",)
    about = About(
        title="Put the restored database in place",
        estimate=60,
        does="Renames both databases in one short moment with nobody connected.",
        expect="The restored database has the live name. The old database is kept.",
        if_not="Read who is still connected. Apply the step again to resume, or undo it to rename back.",
        preserves="The old database is kept until you purge it.",
        reversible=True,
        log_line="Database rolled back",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes both databases, which exchange names."""
        return Touches(changes=frozenset({RESTORED, DATABASE}))

    def after(self, state: State, rules: Rules) -> State:
        """Return the state with the previous data and the backup's schema."""
        return replace(state, database=frozenset((schema, BEFORE) for schema in rules.restored))


class SwapDatabase(CheckedExchange):
    """Fence writes, compare once more, cut over; the old database is kept under a dated name."""

    Keys = SwapDatabaseKeys

    WORKS_IN_PARTS = True

    def preview(self) -> Preview:
        """Show the renames, who is connected now, and the loss from the ledger. Read-only."""
        live, found = self.context.adapters.postgres.database, staging_state_of(self.context)
        counted = ledger(self.context)
        new, old = self.names
        with self.context.adapters.postgres.connect(MAINTENANCE) as maintenance:
            system = identity(maintenance).system
            connected = of_database(maintenance, found.live)
        loss = numbers(counted, self.approved_apart) if counted else {}
        kept = {what: rows for what, rows in (numbers(counted) if counted else {}).items() if what not in loss}
        not_known = counted.unknown if counted else {}
        redefined = list(counted.defined_otherwise) if counted else []
        return Preview(
            self.name,
            self.title,
            would=[
                f"block writes to {live}, compare it with {new} once more, then refuse connections and end those "
                f"there are ({len(connected)} now{': ' if connected else ''}{'; '.join(map(str, connected))})",
                f"rename {live} to {old} and {new} to {live} in one transaction; settings, grants, comment and limit follow "
                "the name, sequences continue where they were, the runbook's records are copied",
                "carry over rows written since the backup; rows in conflict are listed, and exported"
                if self.carries
                else f"carry nothing over: rows written since the backup stay in {old}, and are exported",
                *(f"carry over {rows}: {what}" for what, rows in kept.items()),
                *(
                    ["RISK: without a draft in the plan, what the migrations wrote outside the backfill is carried over too"]
                    if self.carries and self.context.plan.migration and not self.context.plan.draft_
                    else []
                ),
                *(
                    f"leave {rows} rows of {name}, which the migrations wrote, as in the backup, except for users' changes"
                    for name, rows in (counted.migrated if counted else {}).items()
                ),
                *(
                    f"neither compare nor carry {name}: {why}"
                    for name, why in (counted.not_compared if counted else {}).items()
                ),
            ],
            loses=[
                *([] if counted else [f"the loss is {NOT_MADE}"]),
                *(f"{rows}: {what}" for what, rows in loss.items()),
                *(f"{name}: as in the backup, which differs from now" for name in redefined),
                *(f"UNKNOWN: {what}: {why}" for what, why in not_known.items()),
            ],
            locks="SHARE on every table from the last comparison on; no connections for about a second",
            undone_by=f"renaming both back. {old} is kept: if pg_dump cannot read a corrupt database, it is the "
            "backup, and the backup step may be waived for that reason",
            estimate=self.spec.estimate,
            facts={
                "server": system,
                "database": live,
                "ledger": "made" if counted else NOT_MADE,
                "sha256": checksum(self.context, self.context.dump.path),
                "loss": loss,
                "not known": sorted(not_known),
                "only in the live database": list(counted.only_in_live) if counted else [],
                "defined otherwise in the backup": redefined,
                "salvage": "carry" if self.carries else "nothing",
            },
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return a script that exchanges the names, and in words the rest of the step. Read-only."""
        postgres, tools = self.context.adapters.postgres, self.context.adapters.dump_tools
        new, old = self.names
        with postgres.connect(MAINTENANCE) as maintenance:
            away, exchanged = cutover.by_hand(maintenance, postgres.database, new, old)
        return [
            in_words(
                "The step compares both databases once more behind a fence, carries rows over if chosen, and "
                "gives the restored one the settings, grants and sequences of the other: no script can do that. By hand, "
                f"only the names are exchanged; rows written since the backup stay in {old}.",
                "you know what is lost, and have written down ALTER DATABASE … SET, grants and sequences that matter",
            ),
            in_shell(
                fed(tools.command_of_psql(MAINTENANCE), [*away, "BEGIN", *exchanged, "COMMIT"]),
                f"COMMIT; {postgres.database} is the restored database, {old} the other",
            ),
        ]

    def probe(self) -> Probe:
        """Report whether the names are exchanged and connections let in. Read-only."""
        found = staging_state_of(self.context)
        if found.live and not found.lets_in:
            return Probe(Effect.HALF_DONE, f"{found.live} refuses connections")
        if found.kept and not is_exported(self.context):
            return Probe(
                Effect.HALF_DONE, f"the names are exchanged; rows not carried over from {found.kept} are not exported yet"
            )
        if found.kept:
            return Probe(Effect.DONE, f"{found.live} is the restored database; the old one is {found.kept}")
        if self.is_done and not found.staging:
            return Probe(Effect.DONE, "the names are exchanged (by the journal); the old database was dropped since")
        if not found.live:
            return Probe(Effect.UNKNOWN, f"the database {self.context.adapters.postgres.database} does not exist")
        return Probe(Effect.NOT_DONE, f"{found.live} is the old database")

    def approval_gap(self, approved: Mapping[str, Any]) -> str:
        """Report that the approval was given before the loss was counted, "" if not. Read-only."""
        return "it was given before the loss was counted" if approved["facts"].get("ledger") == NOT_MADE else ""

    def apply(self) -> Facts:
        """Fence, compare, carry, cut over, export; a try interrupted before the cut-over restarts at the fence.

        Changes the target.
        """
        found = self.opened()
        left = {} if found.kept else self._swap(found.live)
        kept = staging_state_of(self.context).kept
        if not is_exported(self.context):
            with self.control.listening():
                left |= exported(
                    self.context, kept, found.live, watching(self.control, "for the export"), carry=self.carries
                )
        return {"old database": kept, **left}

    def undo(self) -> Facts:
        """Exchange the names back; the restored database is kept. Changes the target."""
        found = self.opened()
        new, _ = self.names
        if found.staging:
            self.settle(found)
            return {"restored database": new}
        if why := self.cannot_undo():
            raise PreconditionError(
                f"The swap cannot be undone: {why}.",
                where=f"database {found.live}",
                state="Nothing was changed.",
                safe_next="Restore a later backup, or continue with the database as it is.",
            )
        self.reporter.open_cleanup(STAGED, f"The database {new} was restored next to {found.live}; drop it, or swap it in.")
        postgres, pausing = self.context.adapters.postgres, self.context.adapters.pausing
        self.bring_records(found.kept)
        with pausing(), cutover.fenced(postgres, found.live, self.reporter.waiting) as holder:
            closed = self.cut_over(holder, found.kept, new, adopt=False)
        return {"restored database": new, "cannot connect, seconds": round(closed, 3)}

    def undo_leaves(self) -> str:
        """Report that rows written since the cut-over stay in the restored database. Read-only."""
        return f"rows written since the cut-over stay in {self.names[0]}, which is kept"

    def cannot_undo(self) -> str:
        """Report that neither database of the swap is kept, "" if one is. Read-only."""
        found = staging_state_of(self.context)
        return "" if found.staging or found.kept else "the old database no longer exists"

    def _swap(self, live: str) -> dict[str, Any]:
        new, old = self.names
        self.bring_records(new)
        begun = time.monotonic()
        pausing = self.context.adapters.pausing if self.seconds_paused_before else nullcontext
        with pausing(), cutover.fenced(self.context.adapters.postgres, live, self.reporter.waiting) as holder:
            with self.control.listening():
                final = compared(self.context, live, new, watching(self.control, "compared"), carry=self.carries)
                seconds = time.monotonic() - begun
                self._require_as_approved(final, seconds, less=self.carries and applied_before(self.context, live, new))
                over = self._carried(live, new) if self.carries else None
            predict(self.context, final, over)
            self.reporter.open_cleanup(OLD, f"The database {old} is kept; drop it once nobody needs it.")
            closed = self.cut_over(holder, new, old, adopt=True)
        return {
            "last comparison, seconds": round(seconds, 3),
            "cannot write, seconds": round(time.monotonic() - begun, 3),
            "cannot connect, seconds": round(closed, 3),
            "lost": numbers(final, self.approved_apart),
            **({"carried over": over.as_json()} if over else {}),
        }

    def _carried(self, live: str, new: str) -> Outcome:
        done = itertools.count(1)

        def between(part: str) -> None:
            self.control.part(next(done), 0, f"carried: {part}", "parts")

        return applied(self.context, live, new, between, self.control.must_pause)

    def _require_as_approved(self, final: Ledger, seconds: float, *, less: bool) -> None:
        """Stop if the last comparison found another loss than approved; the next preview shows it.

        `less`: whether it may be smaller, because rows that an earlier try carried over are no longer lost.
        """
        approved = self.approved
        loss = numbers(final, self.approved_apart)
        more = beyond(approved.get("loss", {}), loss, self.context.plan.drift_tolerance, less=less)
        more += [f"{what}: {why}" for what, why in final.unknown.items() if what not in approved.get("not known", [])]
        redefined = approved.get("defined otherwise in the backup", [])
        more += [f"{name}: defined differently in the backup" for name in final.defined_otherwise if name not in redefined]
        if more:
            keep(self.context, final, seconds)
            raise PreconditionError(
                f"The loss differs from the approved one: {'; '.join(more)}.",
                where=f"database {self.context.adapters.postgres.database}",
                state="Nothing was changed; the fence is lifted.",
                safe_next="Preview again, which shows the loss as it is now, and approve that.",
            )
