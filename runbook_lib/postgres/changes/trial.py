"""Tries a rollback on scratch databases, applies to the live database what worked, and undoes that the same way.

The states are: `before`; `after`, a copy of it changed by the migrations; `first`, the live database as it is; and `copy`, a
copy of that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import sql

from runbook_lib.config.plan.decide import Decision
from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes.kinds import catalogs_of
from runbook_lib.postgres.changes.losses import lost, not_repeated
from runbook_lib.postgres.changes.net_change import Renames, differences, named_now, renames
from runbook_lib.postgres.changes.objects import Catalog, short
from runbook_lib.postgres.changes.reversal import reverse
from runbook_lib.postgres.changes.rows import SCRATCH, execute, note_rekeyed, row_differences
from runbook_lib.postgres.changes.work import Reversal
from runbook_lib.postgres.connection import copied

STAGED = "^(cells|gone|ruled|was_[0-9]+)$"  # names of tables that statements read
KEPT = "runbook_kept"  # name of the staged rows' schema while migrations run again


class States(ABC):
    """Scratch databases on one server, one for each state."""

    @abstractmethod
    def make(self, state: str, of: str = "") -> None:
        """Create the database of a state, empty or as a copy of another state's. Changes the server."""

    @abstractmethod
    def connected(self, state: str) -> AbstractContextManager[Connection]:
        """Connect to the database of a state."""

    @abstractmethod
    def run(self, state: str, files: Sequence[Path]) -> str:
        """Run scripts until a statement fails; return the server's message, "" if none failed. Changes the database."""


@dataclass
class Trial:
    """A rollback's result on a copy: what it does, what users lose, and whether the migrations can run again."""

    reversal: Reversal
    redeploys: bool | None = None  # None if the rollback is refused
    lost: dict[str, int] = field(default_factory=dict)


def tried(
    states: States,
    files: Sequence[Path],
    changing: Sequence[str],
    renamed: Renames = renames,
    decide: Mapping[str, Decision] | None = None,
) -> Trial:
    """Undo the change on `copy`, and run the migrations again on another copy of the result. Changes the states.

    Args:
        states: The four states.
        files: The migrations' scripts.
        changing: The columns in which each run writes other values, as `losses.unstable` names them.
        renamed: Finds the renames.
        decide: What a person decided.
    """
    scripts = [path.read_text() for path in files]
    with states.connected("before") as before, states.connected("after") as after, states.connected("copy") as copy:
        reversal = reverse(before, after, copy, scripts, renamed=renamed, decide=decide)
    refuse_unstable(reversal, changing)
    if reversal.refusals:
        return Trial(reversal)
    again, gone = _applied_again(states, reversal, files)
    if reversal.refusals:
        return Trial(reversal)
    return Trial(reversal, again, {**gone, **reversal.lost})


def undone_at_once(states: States, reversal: Reversal) -> Reversal:
    """Undo the rollback on `undone`, a copy of `copy`, as if nobody had written since. Changes the states."""
    with states.connected("first") as first, states.connected("copy") as done, states.connected("undone") as undone:
        note_rekeyed(done, reversal.rekeyed)
        execute(undone, f"DROP SCHEMA {SCRATCH} CASCADE")
        return reverse(first, done, undone)


def stage(reversal: Reversal, copy: Connection, live: Connection) -> None:
    """Copy the rows that the statements read into the runbook's schema. Changes that schema of the live database."""
    execute(live, f"CREATE SCHEMA IF NOT EXISTS {SCRATCH}")
    drop_staged(live)
    for table in dict.fromkeys(reversal.staged):
        columns = execute(
            copy,
            f"""SELECT format('%I %s', attname, format_type(atttypid, atttypmod)) AS made FROM pg_attribute
            WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum""",
        )
        execute(live, f"CREATE TABLE {table} ({', '.join(str(row['made']) for row in columns)})")
        copied(copy, sql.SQL(f"COPY {table} TO STDOUT"), live, sql.SQL(f"COPY {table} FROM STDIN"))


def apply(reversal: Reversal, live: Connection) -> None:
    """Execute what was tried, locks first, in the caller's transaction; rows must be staged. Changes the target."""
    settings = ["SET LOCAL search_path = ''", "SET LOCAL check_function_bodies = off"]
    execute(live, "\n;\n".join([*settings, *reversal.locks, *reversal.statements]))


def drop_staged(live: Connection) -> None:
    """Drop the staged rows, also a killed try's. Changes the live database's own schema."""
    listed = f"SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('{SCRATCH}') AND relname ~ '{STAGED}'"
    for row in execute(live, listed):
        execute(live, f"DROP TABLE {SCRATCH}.{row['relname']}")


def unlike(expected: Connection, live: Connection, left_out: frozenset[str]) -> list[str]:
    """List the differences in catalog and rows from an expected database, which lacks the rows of some tables.

    Changes the runbook's schema in the expected database.
    """
    catalog, actual = catalogs_of(expected, live)
    gone = {each.address for each in catalog.of("table") if actual.get(each.key) is None}
    return differences(catalog.objects, actual.objects) + row_differences(expected, live, catalog, gone | left_out)


def refuse_unstable(reversal: Reversal, columns: Sequence[str]) -> None:
    """Refuse if migrations write into tables from before, and each run writes other values."""
    created = {each.key for each in reversal.changes if each.before is None}
    for column in columns:
        table, _, name = column.rpartition(".")
        if not {f"column {column}", f"table {table}"} & created:
            reversal.refuse(name, f"the migration writes other values into {column} each time that it runs")


def _applied_again(states: States, reversal: Reversal, files: Sequence[Path]) -> tuple[bool, dict[str, int]]:
    """Report whether migrations run again on the result with the same effect, and the user data they do not restore."""
    with states.connected("copy") as copy:  # the rollback's own tables must not block them
        execute(copy, f"ALTER SCHEMA {SCRATCH} RENAME TO {KEPT}")
    states.make("again", "copy")
    with states.connected("copy") as copy:
        execute(copy, f"ALTER SCHEMA {KEPT} RENAME TO {SCRATCH}")
    with states.connected("again") as again:
        execute(again, f"DROP SCHEMA {KEPT} CASCADE")
    stopped = states.run("again", files)
    with states.connected("again") as again, states.connected("first") as first, states.connected("after") as made:
        catalog, now, actual = catalogs_of(again, first, made)
        created = [each for of in reversal.changes if of.before is None and (each := actual.get(_now(of.key, reversal)))]
        same = all((found := catalog.get(each.key)) is not None and found.like(each) for each in created)
        held = [each for each in created if each.kind in ("table", "column")]
        for table, column, key in reversal.repeatable:
            rows = not_repeated(again, first, actual[f"table {table}"], column, key)
            if rows or stopped:
                why = (
                    f"the migration changed {short(table)}.{column} in place, and would change what was written since again"
                )
                reversal.refuse(column, why, rows)
        catalogs = (now, actual, Catalog({}) if stopped else catalog)
        return same, lost(again, first, made, held, catalogs, reversal.key_copies)


def _now(key: str, reversal: Reversal) -> str:
    """Convert an object's key from before to the one with the migrations' names."""
    kind, _, address = key.partition(" ")
    return f"{kind} {named_now(address, reversal.renames)}"
