"""Sends what is to be done under strong locks in one message, so that they are held no longer where the server is far away.

The work is first gone through without its locks: what it reads is read and noted, what it would write is noted alone. Under
the locks the server itself sees that all that was read is still so, and then writes.
"""

import re
from collections.abc import Callable
from typing import Any, Self, TypeVar

import psycopg
from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, Row

OUTDATED = "RB001"  # the server's code for something that was read and is not so any more
_WRITES = re.compile(r"\b(?:INSERT\s+INTO|UPDATE\s+\S+\s+(?:\w+\s+)?SET|DELETE\s+FROM|MERGE\s+INTO)\b", re.IGNORECASE)

_ALL_ROWS = """SELECT string_agg(to_json(q)::text, E'\\n' ORDER BY to_json(q)::text COLLATE "C") AS it FROM (
{query}
) q"""
_STILL_SO = """IF ({rows}) IS DISTINCT FROM {seen} THEN
    RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = 'what was looked at has changed since';
END IF"""

T = TypeVar("T")


def noted(connection: Connection, work: Callable[[Connection], T]) -> Callable[[Connection], T]:
    """Go through `work` without doing it; gives what does it in one message, and returns what `work` did. Read-only.

    Args:
        connection: On which it is gone through, in autocommit mode.
        work: It reads by SELECT alone, nothing that it has written itself, and fetches nothing from what writes.
    """
    looks, writes = list[str](), list[str]()

    class Noting(psycopg.ClientCursor[Row]):
        def execute(
            self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
        ) -> Self:
            text = self.mogrify(query, params).strip()
            match text.split(maxsplit=1)[0].upper():
                case "SELECT" | "WITH" if not _WRITES.search(text):
                    rows = sql.SQL(_ALL_ROWS.format(query=text))
                    seen = super().execute(rows).fetchone()
                    looks.append(_still_so(rows, seen["it"] if seen else None).as_string(self.connection))
                    super().execute(query, params)
                case "SET":
                    super().execute(query, params)
                    looks.append(text)
                case _:
                    writes.append(text)
            return self

    with connection.transaction(force_rollback=True):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        usual, connection.cursor_factory = connection.cursor_factory, Noting
        try:
            result = work(connection)
        finally:
            connection.cursor_factory = usual

    def done(connection: Connection) -> T:
        if looks or writes:
            connection.execute(_message(looks, writes).as_string(connection).encode())
        return result

    return done


def _still_so(rows: sql.SQL, seen: str | None) -> sql.Composed:
    return sql.SQL(_STILL_SO.replace("{code}", OUTDATED)).format(rows=rows, seen=sql.Literal(seen))


def _message(looks: list[str], writes: list[str]) -> sql.Composed:
    """The locks first, then a look at all that was read, then the rest."""
    locked = max((number for number, text in enumerate(writes, 1) if text.startswith("LOCK")), default=0)
    body = "#variable_conflict use_column\nBEGIN\n" + "".join(f"{look};\n" for look in looks) + "END"
    look = sql.SQL("DO {}").format(sql.Literal(body))
    return sql.SQL(";\n").join([*map(sql.SQL, writes[:locked]), look, *map(sql.SQL, writes[locked:])])
