"""Applies to the live database what was tried on copies, or undoes it, and records it there in the same transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from psycopg import sql
from psycopg.types.json import Jsonb

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.blockers import Blocker
from runbook_lib.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.postgres.changes import untouched
from runbook_lib.postgres.changes.concerned import still_left_out
from runbook_lib.postgres.changes.copies import NOT_COPIED, Copies
from runbook_lib.postgres.changes.kinds import catalog_of
from runbook_lib.postgres.changes.reversal import reverse
from runbook_lib.postgres.changes.rows import note_rekeyed
from runbook_lib.postgres.changes.trial import apply, drop_staged, stage, unlike
from runbook_lib.postgres.changes.work import Reversal
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.lock_budget import LADDER, LockBudget, with_short_lock
from runbook_lib.postgres.migration_history import History
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.script import script, written_down

TABLE = sql.Identifier(OWN_SCHEMA, "taken_back")
MORE = 3  # times the statements' duration on the copy before a try is ended
Waiting = Callable[[Sequence[Blocker]], None]


@dataclass(frozen=True)
class Record:
    """What a run rolled back: the draft's SHA-256, and how the result differed from the trial; None if not compared yet.

    `others` holds earlier fingerprints of the tables whose rows were not copied, by their OIDs.
    """

    draft: str
    differences: list[str] | None
    others: dict[str, str] | None  # None for an older run, which copied all rows


def find(connection: Connection, run: str) -> Record | None:
    """Read the record of a run; None if it rolled nothing back. Read-only."""
    if not exists(connection, TABLE):
        return None
    query = sql.SQL("SELECT draft, differences, to_jsonb(t) -> 'others' AS others FROM {} t WHERE run = %s").format(TABLE)
    row = connection.execute(query, [run]).fetchone()
    return Record(**row) if row else None


def take_back(
    open_: Open, copies: Copies, reversal: Reversal, history: History | None, record: Record, waiting: Waiting
) -> None:
    """Apply what was tried on a copy, with history and record, in one transaction; keep the copy. Changes the target.

    Raises:
        PreconditionError: The locks were not granted.
        AdapterError: A statement failed, and nothing was changed.
    """
    run = copies.target.run
    with copies.connected("kept_copy") as copy:
        note_rekeyed(copy, reversal.rekeyed)
        with open_() as live:
            make_own_schema(live)
            live.execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {0} (run text PRIMARY KEY, draft text NOT NULL, differences text[], "
                    "at timestamptz NOT NULL DEFAULT now()); ALTER TABLE {0} ADD COLUMN IF NOT EXISTS others jsonb"
                ).format(TABLE)
            )
            stage(reversal, copy, live)

    def work(live: Connection) -> None:
        with _as_owner(live, reversal):
            apply(reversal, live)
        drop_staged(live)
        if history:
            history.take(Statements(live))
        made = sql.SQL("INSERT INTO {} (run, draft, others) VALUES (%s, %s, %s)").format(TABLE)
        live.execute(made, [run, record.draft, Jsonb(record.others)])

    with_short_lock(open_, work, waiting, budget=budget_of(reversal))


def by_hand(connection: Connection, reversal: Reversal, history: History | None) -> str:
    """Write a script of what was tried on a copy, if no statement reads rows from there; else "". Read-only."""
    if any(table in statement for table in reversal.staged for statement in reversal.statements):
        return ""
    with written_down(connection) as statements:
        make_own_schema(connection)
        with _as_owner(connection, replace(reversal, staged=[])):
            apply(reversal, connection)
        if history and history.exists(connection):
            history.take(Statements(connection))
    return script(statements)


def budget_of(reversal: Reversal) -> LockBudget:
    """Limit the waits for locks and their duration: not much longer than it took on the copy."""
    return LockBudget(LADDER, LADDER[-1] + int(MORE * 1000 * reversal.seconds))


def compare(open_: Open, copies: Copies) -> list[str]:
    """Compare the target with the trial, object by object and row by row, and record the result. Changes the record.

    Rows that were not copied are compared with their fingerprints.
    """
    with copies.connected("kept_copy") as copy, open_() as live:
        record = find(live, copies.target.run)
        found = _unlike(copy, live, (record.others if record else None) or {})
        live.execute(sql.SQL("UPDATE {} SET differences = %s WHERE run = %s").format(TABLE), [found, copies.target.run])
    return found


def undo(open_: Open, copies: Copies, history: History | None, waiting: Waiting) -> list[str]:
    """Undo the rollback, except for what users wrote since; return how the result differs from the trial.

    Changes the target.

    Raises:
        PreconditionError: Something cannot be restored over later writes, or the locks were not granted.
        AdapterError: A statement failed, and nothing was changed.
    """
    _require_no_other_migration(open_, copies, history)
    with open_() as live:
        record = find(live, copies.target.run)
        left_out = still_left_out(catalog_of(live), (record.others if record else None) or {})
        others = untouched.fingerprints(live, [each.id for each in left_out])
    copies.copy_live("undone", left_out)
    for state, of in (("start", "kept_first"), ("done", "kept_copy")):
        copies.make(state, of)
    with copies.connected("start") as start, copies.connected("done") as done, copies.connected("undone") as undone:
        reversal = reverse(start, done, undone)
        require(reversal, "The rollback cannot be undone")
        with open_() as live:
            stage(reversal, undone, live)

        def work(live: Connection) -> None:
            with _as_owner(live, reversal):
                apply(reversal, live)
            drop_staged(live)
            live.execute(sql.SQL("DELETE FROM {} WHERE run = %s").format(TABLE), [copies.target.run])

        with_short_lock(open_, work, waiting, budget=budget_of(reversal))
        with open_() as live:
            return _unlike(undone, live, others)


def _unlike(expected: Connection, live: Connection, others: Mapping[str, str]) -> list[str]:
    left_out = untouched.addresses(live, others).values()
    found = unlike(expected, live, frozenset(left_out)) + untouched.changed(live, others)
    return [each for each in found if not each.removeprefix("extra ").startswith(NOT_COPIED)]


@contextmanager
def _as_owner(live: Connection, reversal: Reversal) -> Iterator[None]:
    """Act as the database's owner, who may use the runbook's own schema during the block."""
    query = "SELECT pg_get_userbyid(datdba) AS it, current_user AS us FROM pg_database WHERE datname = current_database()"
    owner = one(live, query)
    own, role = sql.Identifier(OWN_SCHEMA), sql.Identifier(owner["it"])
    if owner["it"] == owner["us"]:
        yield
        return
    live.execute(sql.SQL("GRANT ALL ON SCHEMA {} TO {}").format(own, role))
    for table in dict.fromkeys(reversal.staged):
        live.execute(sql.SQL("GRANT ALL ON TABLE {} TO {}").format(sql.SQL(table), role))
    live.execute(sql.SQL("SET LOCAL ROLE {}").format(role))
    yield
    live.execute("SET LOCAL ROLE none")
    live.execute(sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(own, role))


def _require_no_other_migration(open_: Open, copies: Copies, history: History | None) -> None:
    if history is None:
        return
    with copies.connected("kept_first") as first, open_() as live:
        said = history.moved_on(live, history.whole(first))
    if said:
        raise PreconditionError(
            f"The rollback cannot be undone: {said}",
            state="The live database is as it was.",
            safe_next="Undo that migration first, or leave the rollback as it is.",
        )


def require(reversal: Reversal, what: str) -> None:
    """Check that nothing was refused. Read-only.

    Raises:
        PreconditionError: Something was refused.
    """
    if reversal.refusals:
        raise PreconditionError(
            f"{what}: {'; '.join(f'{each.object}: {each.why}' for each in reversal.refusals)}",
            state="The live database is as it was: this was tried on a copy.",
            safe_next="Correct or decide what is named; then run the step again.",
        )
