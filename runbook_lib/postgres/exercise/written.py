"""Reads what a statement wrote on a clone, to compare it before and after a change."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from runbook_lib.postgres import Connection

LARGEST = 10_000_000  # bytes of the largest table whose rows are read
_COUNTS = """SELECT relid::regclass::text AS table, n_tup_ins AS inserted, n_tup_upd AS updated, n_tup_del AS deleted,
pg_relation_size(relid) AS bytes FROM pg_stat_xact_user_tables"""
_ROWS = "SELECT to_jsonb(t) AS row FROM {} t WHERE age(t.xmin) <= age(pg_current_xact_id()::xid)"

Counts = Mapping[str, tuple[int, int, int, int]]  # table -> rows inserted, updated and deleted, and its size


@dataclass(frozen=True)
class Wrote:
    """The number of rows inserted, updated and deleted in a table, and the rows that the transaction left, by column."""

    counts: tuple[int, int, int]
    rows: tuple[Mapping[str, Any], ...]


Written = Mapping[str, Wrote]  # by the table


def counts(connection: Connection) -> Counts:
    """Count what this transaction has written so far in each table. Read-only."""
    rows = connection.execute(_COUNTS.encode())
    return {row["table"]: (row["inserted"], row["updated"], row["deleted"], row["bytes"]) for row in rows}


def written(connection: Connection, before: Counts) -> Written | None:
    """Read what was written since those counts; None if our role may not see it. Read-only."""
    found = {}
    try:
        for table, (*now, size) in counts(connection).items():
            inserted, updated, deleted = (a - b for a, b in zip(now, before.get(table, (0, 0, 0, 0)), strict=False))
            if inserted or updated or deleted:
                rows = connection.execute(sql.SQL(_ROWS).format(sql.SQL(table))).fetchall() if size < LARGEST else []
                found[table] = Wrote((inserted, updated, deleted), tuple(row["row"] for row in rows))
    except psycopg.errors.InsufficientPrivilege:
        return None
    return found


def unlike(before: Written, again: Written, after: Written, left_out: Collection[str]) -> list[str]:
    """Name the tables and columns written differently `after` a change, but alike in `before` and `again`. Pure.

    Columns that no longer exist do not count, nor do those in `left_out`.
    """
    names = [{name for wrote in each.values() for row in wrote.rows for name in row} for each in (again, after)]
    apart = (names[0] ^ names[1]) | {*left_out}
    found = []
    for table in sorted(again.keys() | after.keys()):
        was, now = again.get(table), after.get(table)
        if was is None or now is None or was.counts != now.counts:
            found.append(table)
            continue
        columns = sorted({name for row in (*was.rows, *now.rows) for name in row} - apart)
        first = before.get(table)
        found += [
            f"{table}.{column}"
            for column in columns
            if first and _values(first, column, apart) == _values(was, column, apart) != _values(now, column, apart)
        ]
    return found


def _values(wrote: Wrote, column: str, apart: Collection[str]) -> list[str]:
    return sorted(json.dumps(_plain(row.get(column), apart), sort_keys=True) for row in wrote.rows)


def _plain(value: Any, apart: Collection[str]) -> Any:
    """Strip from a value, such as an audit's copy of a row, the parts about columns that do not count."""
    if isinstance(value, dict):
        return {name: _plain(each, apart) for name, each in value.items() if name not in apart}
    if isinstance(value, list):
        return [_plain(each, apart) for each in value]
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return _plain(json.loads(value), apart)
        except ValueError:
            pass
    return None if isinstance(value, str) and any(name in value for name in apart) else value
