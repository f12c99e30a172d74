"""Sees that a transaction changes the rows it was meant to change, and nothing else."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.errors import AdapterError, StepFailed

Counts = tuple[int, int, int]  # rows inserted, updated, deleted
Written = dict[str, Counts]  # by table
Expected = list[tuple[sql.Identifier, Counts]]
NOTHING: Counts = (0, 0, 0)
UNEXPECTED = "RB002"  # the server's code for a block that wrote something else


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
    meant = [(table, counts) for table, counts in expected if counts != NOTHING]
    named = dict(zip(_names(connection, [table for table, _ in meant]), (counts for _, counts in meant), strict=True))
    changed = {
        name: difference
        for name, counts in _written(connection).items()
        if (difference := _minus(counts, before.get(name, NOTHING))) != NOTHING
    }
    if changed != named:
        raise _refusal(changed, named)


def block(work: sql.Composable, expected: Sequence[tuple[sql.Identifier, Sequence[sql.Composable]]]) -> sql.Composed:
    """A block of the server's that does `work` and fails where anything else was written, as `told` then tells.

    Args:
        work: A statement that gives one row.
        expected: Tables, each with the rows inserted, updated and deleted, as terms over that row, which is called `it`.
    """
    meant = [sql.SQL("({})").format(sql.SQL(", ").join([_literal(table), *counts])) for table, counts in expected]
    body = sql.SQL(_BLOCK).format(work=sql.Literal(work.as_string()), meant=sql.SQL(", ").join(meant))
    return sql.SQL("DO {}").format(sql.Literal(body.as_string()))


@contextmanager
def told() -> Iterator[None]:
    """Tell the failure of a `block` as that of a `transaction` is told.

    Raises:
        StepFailed: Something else was written, by a trigger or a rule.
    """
    try:
        yield
    except AdapterError as error:
        cause = error.__cause__
        if not isinstance(cause, psycopg.Error) or cause.sqlstate != UNEXPECTED:
            raise
        changed, named = json.loads(cause.diag.message_detail or "")
        raise _refusal(*({name: tuple(counts) for name, counts in of.items()} for of in (changed, named))) from None


def _refusal(changed: Mapping[str, Sequence[int]], named: Mapping[str, Sequence[int]]) -> StepFailed:
    return StepFailed(
        f"A transaction would have changed this (inserted, updated, deleted): {changed}, where {named} was meant.",
        where=", ".join(named) or "nothing was meant to change",
        state="That transaction was rolled back; those before it stand, each with its way back.",
        safe_next="Look for triggers and rules on the table; undo the step, or mend them and run it again.",
    )


def _minus(counts: Counts, before: Counts) -> Counts:
    return counts[0] - before[0], counts[1] - before[1], counts[2] - before[2]


def _names(connection: Connection, tables: Sequence[sql.Identifier]) -> list[str]:
    """What the server calls some tables in its statistics. Read-only."""
    asked = [table.as_string(connection) for table in tables]
    return list(one(connection, "SELECT %s::text[]::regclass[]::text[] AS names", [asked])["names"])


def _written(connection: Connection) -> Written:
    """What this session has written; it still counts earlier transactions, so only a difference tells of one. Read-only."""
    return {row["name"]: (row["ins"], row["upd"], row["del"]) for row in connection.execute(_WRITTEN.encode())}


def _literal(table: sql.Identifier) -> sql.Composed:
    return sql.SQL("{}::regclass").format(sql.Literal(table.as_string()))


_WRITTEN = """SELECT relid::regclass::text AS name, n_tup_ins AS ins, n_tup_upd AS upd, n_tup_del AS del
FROM pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0"""

_BLOCK = """
DECLARE
    it record;
    before jsonb := (SELECT coalesce(jsonb_object_agg(w.name, jsonb_build_array(ins, upd, del)), '{{}}') FROM (<written>) w);
    changed jsonb;
    meant jsonb;
BEGIN
    EXECUTE {work} INTO it;
    SELECT coalesce(jsonb_object_agg(w.name, jsonb_build_array(w.ins - w.i, w.upd - w.u, w.del - w.d)), '{{}}') INTO changed
    FROM (SELECT w.*, coalesce((before->w.name->>0)::bigint, 0) AS i, coalesce((before->w.name->>1)::bigint, 0) AS u,
                 coalesce((before->w.name->>2)::bigint, 0) AS d FROM (<written>) w) w
    WHERE (w.ins, w.upd, w.del) <> (w.i, w.u, w.d);
    SELECT coalesce(jsonb_object_agg(m.name::text, jsonb_build_array(m.ins, m.upd, m.del)), '{{}}') INTO meant
    FROM (VALUES {meant}) m(name, ins, upd, del) WHERE (m.ins, m.upd, m.del) <> (0, 0, 0);
    IF changed <> meant THEN
        RAISE EXCEPTION USING ERRCODE = '<code>', MESSAGE = 'something else was written than was meant',
            DETAIL = jsonb_build_array(changed, meant)::text;
    END IF;
END""".replace("<written>", _WRITTEN).replace("<code>", UNEXPECTED)
