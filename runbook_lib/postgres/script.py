"""A step's writes as a psql script, produced by the code that the step runs, with nothing written."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import psycopg

from runbook_lib.postgres import Connection, Row
from runbook_lib.postgres.connection import LOCK_TIMEOUT

_LOOK = re.compile(r"\s*(?:SELECT|WITH|SHOW|VALUES|TABLE)\b", re.IGNORECASE)
_SETTING = "set_config("  # a read that is executed, because later texts depend on it, and that the script needs too


@contextmanager
def written_down(connection: Connection) -> Iterator[list[str]]:
    """Collect the statements by which the block would write; execute only its reads. Read-only."""
    statements: list[str] = []

    class Writing(psycopg.ClientCursor[Row]):
        def execute(
            self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
        ) -> Self:
            text = self.mogrify(query, params).strip()
            looks = _LOOK.match(text)
            if not looks or _SETTING in text:
                statements.append(text)
            return super().execute(query, params) if looks else self

    with connection.transaction(force_rollback=True):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        usual, connection.cursor_factory = connection.cursor_factory, Writing
        try:
            yield statements
        finally:
            connection.cursor_factory = usual


def script(*transactions: Sequence[str]) -> str:
    """Join statements into a script, each list in a transaction of its own. Pure."""
    lines = [f"SET lock_timeout = '{LOCK_TIMEOUT}';"]
    for statements in transactions:
        lines += ["BEGIN;", *(f"{statement.rstrip().rstrip(';')};" for statement in statements), "COMMIT;"]
    return "\n".join(lines)
