"""Sees that a transaction changes the rows it was meant to change, and nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.errors import StepFailed

Counts = tuple[int, int, int]  # rows inserted, updated, deleted
Written = dict[str, Counts]  # by table
Expected = list[tuple[sql.Identifier, Counts]]
NOTHING: Counts = (0, 0, 0)


@contextmanager
def transaction(connection: Connection, expected: Expected) -> Iterator[None]:
    """A transaction that is rolled back unless it wrote just what `expected` says at its end.

    Changes what the block changes.

    Args:
        connection: In autocommit mode.
        expected: Tables, each with the rows inserted, updated and deleted; the block fills it in.

    Raises:
        StepFailed: Something else was written, by a trigger or a rule.
    """
    with connection.transaction():
        before = _written(connection)
        yield
        require_only(connection, before, expected)


def require_only(connection: Connection, before: Written, expected: Sequence[tuple[sql.Identifier, Counts]]) -> None:
    """Compare what this transaction has written with what it should have. Read-only.

    Raises:
        StepFailed: They differ.
    """
    named = {_name(connection, table): counts for table, counts in expected if counts != NOTHING}
    changed = {
        name: difference
        for name, counts in _written(connection).items()
        if (difference := _minus(counts, before.get(name, NOTHING))) != NOTHING
    }
    if changed != named:
        raise StepFailed(
            f"A transaction would have changed this (inserted, updated, deleted): {changed}, where {named} was meant.",
            where=", ".join(named) or "nothing was meant to change",
            state="That transaction was rolled back; those before it stand, each with its way back.",
            safe_next="Look for triggers and rules on the table; undo the step, or mend them and run it again.",
        )


def _minus(counts: Counts, before: Counts) -> Counts:
    return counts[0] - before[0], counts[1] - before[1], counts[2] - before[2]


def _name(connection: Connection, table: sql.Identifier) -> str:
    return str(one(connection, "SELECT %s::regclass::text AS name", [table.as_string(connection)])["name"])


def _written(connection: Connection) -> Written:
    """What this session has written; it still counts earlier transactions, so only a difference tells of one. Read-only."""
    return {
        row["name"]: (row["ins"], row["upd"], row["del"])
        for row in connection.execute(
            """SELECT relid::regclass::text AS name, n_tup_ins AS ins, n_tup_upd AS upd, n_tup_del AS del
               FROM pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0"""
        )
    }
