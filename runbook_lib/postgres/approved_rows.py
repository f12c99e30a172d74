"""Writes the keys of the rows approved for clearing to a file, and loads them for the run."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.connection import one


@dataclass(frozen=True)
class KeySet:
    """A set of keys: their number, and the SHA-256 of their sorted list."""

    count: int
    sha256: str


def approved_keys(connection: Connection, backfill: BackfillTerms, path: Path) -> KeySet:
    """Write the keys of all affected rows to `path`, sorted, one per line. Read-only."""
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
    return KeySet(count, digest.hexdigest())


def load_approved(connection: Connection, backfill: BackfillTerms, path: Path) -> int:
    """Load the approved keys from `path` into this run's table, and return how many affected rows are not approved.

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
