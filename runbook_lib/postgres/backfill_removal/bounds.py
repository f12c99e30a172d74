"""The rows that a removal is bound to: those approved, and those that held NULL before the backfill."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, dump
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.connection import one


@dataclass(frozen=True)
class Keys:
    """A set of keys: how many, and the SHA-256 of their sorted list."""

    count: int
    sha256: str


def approved_keys(connection: Connection, backfill: Backfill, path: Path) -> Keys:
    """Write the keys of all affected rows to `path`, sorted, one a line. Read-only."""
    query = backfill.filled(
        sql.SQL("COPY (SELECT t.{key}::text FROM {table} t WHERE {affected} ORDER BY t.{key}) TO STDOUT")
    )
    digest, count = hashlib.sha256(), 0
    with open(path, "wb") as file, connection.cursor() as cursor, cursor.copy(query) as copy:
        for block in copy:
            data = bytes(block)
            digest.update(data)
            count += data.count(b"\n")
            file.write(data)
    return Keys(count, digest.hexdigest())


def load_approved(connection: Connection, backfill: Backfill, path: Path) -> int:
    """Put the approved keys of `path` into this run's table of them; returns how many affected rows are not among them.

    Changes the runbook's own tables.
    """
    with connection.transaction():
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(backfill.approved))
        connection.execute(
            backfill.filled(
                sql.SQL("CREATE TABLE {approved} AS SELECT t.{key} AS key FROM {table} t WITH NO DATA"),
                approved=backfill.approved,
            )
        )
        with (
            open(path, "rb") as file,
            connection.cursor() as cursor,
            cursor.copy(sql.SQL("COPY {} FROM STDIN").format(backfill.approved)) as copy,
        ):
            while data := file.read(1 << 20):
                copy.write(data)
        connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (key)").format(backfill.approved))
        connection.execute(sql.SQL("ANALYZE {}").format(backfill.approved))
    query = sql.SQL(
        "SELECT count(*) AS n FROM {table} t WHERE {affected}"
        " AND NOT EXISTS (SELECT FROM {approved} a WHERE a.key = t.{key})"
    )
    return int(one(connection, backfill.filled(query, approved=backfill.approved))["n"])


def load_prior_nulls(connection: Connection, backfill: Backfill, rows: Path) -> int:
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
    with dump.rows(path) as (names, rows):
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
        yield from (fields[at] for fields in rows if fields[where] == dump.NULL)
