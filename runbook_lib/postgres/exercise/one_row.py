"""Finds, on a clone, what else writing one row changes: by triggers, in other columns and other tables."""

from typing import Any

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.exercise.outside import keep_quiet, outside

_COUNTS = """SELECT relid::regclass::text AS name, n_tup_ins AS ins, n_tup_upd AS upd, n_tup_del AS del
FROM pg_stat_xact_user_tables"""
_FIRST = """SELECT t.{key} AS key, to_jsonb(t) AS row FROM {table} t ORDER BY ({affected}) DESC LIMIT 1"""
_UPDATE = """UPDATE {table} t SET {column} = {value} {touch} WHERE t.{key} = {first} RETURNING to_jsonb(t) AS row"""


def to_try(backfill: BackfillTerms) -> sql.Composable:
    """Build a condition on the rows `t` to clear; any row matches if each gets its own earlier value."""
    return sql.SQL("TRUE") if backfill.reads_earlier_values else backfill.affected


def changed_by_one_row(connection: Connection, backfill: BackfillTerms) -> str:
    """Clear one row of the clone as batches do, roll back, and return what else changed. Changes nothing that lasts.

    Triggers that may act outside the database do not fire. Returns "" if the table has no row to try.
    """
    with connection.transaction(force_rollback=True):
        quiet = keep_quiet(connection, outside(connection))
        first = connection.execute(backfill.filled(sql.SQL(_FIRST), affected=to_try(backfill))).fetchone()
        if first is None:
            return ""
        before = _counts(connection)
        value = backfill.of("t") if backfill.reads_earlier_values else backfill.kept_of_affected
        update = backfill.filled(sql.SQL(_UPDATE), value=value, touch=backfill.touch(), first=sql.Literal(first["key"]))
        row = connection.execute(update).fetchone()
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        after = _counts(connection)
        table = one(connection, "SELECT %s::regclass::text AS it", [backfill.table.as_string(connection)])["it"]
    meant = {backfill.spec.name, backfill.spec.touch_column}
    found = [
        f"{table}.{name}" for name in first["row"] if name not in meant and row and row["row"][name] != first["row"][name]
    ]
    found += ["the row is not written"] if row is None else []
    for name, counts in after.items():
        more = [now - then for now, then in zip(counts, before.get(name, (0, 0, 0)), strict=True)]
        more[1] -= name == table and row is not None
        words = [f"{number} {what}" for number, what in zip(more, ("inserted", "updated", "deleted"), strict=True) if number]
        found += [f"{name}: {', '.join(words)}"] if words else []
    text = f"one row run through it also changes: {'; '.join(found) or 'nothing'}"
    return text + (f" (did not fire, as they may act outside the database: {', '.join(quiet)})" if quiet else "")


def _counts(connection: Connection) -> dict[str, tuple[Any, ...]]:
    return {row["name"]: (row["ins"], row["upd"], row["del"]) for row in connection.execute(_COUNTS.encode())}
