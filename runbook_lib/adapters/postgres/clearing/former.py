"""Which rows held NULL before the backfill, as the backup from before it tells."""

from collections.abc import Iterator
from pathlib import Path

from psycopg import sql

from runbook_lib.adapters.postgres import dumped
from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.errors import PreconditionError


def load(connection: Connection, backfill: Backfill, rows: Path) -> int:
    """Note the keys of the rows whose column is NULL in `rows`, a table's data as pg_restore writes it; returns how many.

    Changes the runbook's own tables.

    Raises:
        PreconditionError: The file holds no data of the table with its key and column.
    """
    found = 0
    with connection.transaction():
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(backfill.former))
        prepare(connection, backfill)
        with connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(backfill.former)) as copy:
            for key in _null_keys(rows, backfill.database.key, backfill.database.backfill.column):
                copy.write(key + b"\n")
                found += 1
        connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (key)").format(backfill.former))
    return found


def prepare(connection: Connection, backfill: Backfill) -> None:
    """Make the empty table of such keys. Changes the runbook's own tables."""
    connection.execute(
        backfill.filled(
            sql.SQL("CREATE TABLE {former} AS SELECT t.{key} AS key FROM {table} t WITH NO DATA"), former=backfill.former
        )
    )


def _null_keys(path: Path, key: str, column: str) -> Iterator[bytes]:
    """The keys, as COPY's text, of the rows whose column is NULL."""
    with dumped.rows(path) as (names, rows):
        if key not in names:
            raise PreconditionError(
                f"The backup holds no data with the key {key}.",
                where=str(path),
                state="Nothing was changed.",
                safe_next='Choose `cleared: "[]"` or `null` in the plan, or another backup.',
            )
        if column not in names:
            return  # the backup is from before the column: every row had its default
        at, where = names.index(key), names.index(column)
        yield from (fields[at] for fields in rows if fields[where] == dumped.NULL)
