"""Stream the hashes of a table in key order, in arrays of thousands of rows built by the server."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from runbook_lib.postgres import Connection, Row, text_settings
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.restore.difference_kinds import Chunk, Hashes
from runbook_lib.postgres.text_settings import ALL_ROWS

PAGE = 20_000  # rows per chunk
AHEAD = 2  # chunks read in advance
BIGINTS = 1016  # the OID of bigint[]
ARRAY_HEADER = 20  # bytes before the elements of a one-dimensional array
SMALLEST, LARGEST = -(2**63), 2**63 - 1

# Settings that are the same on both sides, and those that let a long statement finish.
PINNED = {
    "search_path": "pg_catalog",
    **ALL_ROWS,
    "max_parallel_workers_per_gather": "0",
    "work_mem": "64MB",
    "enable_hashagg": "off",  # groups are read in order, sorted to disk if there are many
    "jit": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "10min",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """A table in one database, and the terms to hash for each of its rows."""

    connection: Connection
    rows: sql.Composable
    key: sql.Composable  # bigint, unique
    ordered: bool  # whether an index orders by the key; else the key is a hash
    groups: tuple[sql.Composable | None, ...]  # those of Chunk, without the key
    which: sql.Composable | None = None  # a condition that selects few rows `t`


@contextmanager
def pinned(connection: Connection, snapshot: str | None = None, *, read_only: bool = True) -> Iterator[Connection]:
    """A transaction with one snapshot, and with every setting pinned that affects the text of a value.

    `snapshot` names the snapshot of another transaction, to be shared.
    """
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = read_only
    try:
        with connection.transaction():
            if snapshot:
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
            pin(connection)
            yield connection
    finally:
        if not connection.closed:
            connection.isolation_level = connection.read_only = None


def pin(connection: Connection) -> None:
    """Pin, for this transaction, all settings that must be the same on both sides. Read-only."""
    text_settings.pin(connection, local=True, **PINNED)


def chunks(source: Source) -> Iterator[Chunk]:
    """Yield the rows of a table in key order. Read-only.

    Raises:
        Collision: Two keys have the same hash.
    """
    with source.connection.cursor(binary=True) as cursor:
        cursor.adapters.register_loader(BIGINTS, BigintArray)
        if source.which:
            yield from _picked(source, source.which, cursor)
        else:
            yield from _pages(source, cursor) if source.ordered else _buckets(source, cursor)


@contextmanager
def ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Yield the same items, produced in advance by another thread."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=AHEAD)
    left = threading.Event()

    def put(kind: str, item: Any = None) -> None:
        while not left.is_set():
            with suppress(queue.Full):
                ready.put((kind, item), timeout=0.1)
                return

    def make() -> None:
        try:
            for item in items:
                put("item", item)
                if left.is_set():
                    return
            put("end")
        except BaseException as error:
            put("error", error)

    def made() -> Iterator[T]:
        while (got := ready.get())[0] == "item":
            yield got[1]
        if got[0] == "error":
            raise got[1]

    maker = threading.Thread(target=make, daemon=True)
    maker.start()
    try:
        yield made()
    finally:
        left.set()
        maker.join()


class BigintArray(Loader):
    """Reads an array of 64-bit integers from the server without an object for each."""

    format = Format.BINARY
    ELEMENT = [("length", ">i4"), ("value", ">i8")]

    def load(self, data: Buffer) -> Hashes:
        """Return the numbers of such an array."""
        import numpy as np  # here, since few runs compare databases, and it is slow to load

        return np.frombuffer(data, np.dtype(self.ELEMENT), offset=ARRAY_HEADER)["value"].astype(np.int64)


def _gathered(source: Source) -> tuple[sql.Composed, sql.Composed]:
    """Return the SQL that gathers rows in arrays, and the terms it gathers."""
    terms = [source.key, *source.groups]
    names = [sql.Identifier(f"h{place}") for place in range(len(terms))]
    each = [
        (name, term or sql.SQL("NULL"), sql.SQL("array_agg" if term else "min"))
        for name, term in zip(names, terms, strict=True)
    ]
    return (
        sql.SQL(", ").join(sql.SQL("{1}({0}) AS {0}").format(name, gather) for name, _, gather in each),
        sql.SQL(", ").join(sql.SQL("({1})::bigint AS {0}").format(name, term) for name, term, _ in each),
    )


def _pages(source: Source, cursor: psycopg.Cursor[Row]) -> Iterator[Chunk]:
    gathered, terms = _gathered(source)

    def page(first: int) -> sql.Composed:
        return sql.SQL(
            "SELECT {} FROM (SELECT {} FROM {} t WHERE {key} >= {first}::bigint ORDER BY {key} LIMIT {rows}) p"
        ).format(gathered, terms, source.rows, key=source.key, first=sql.Literal(str(first)), rows=sql.Literal(PAGE))

    source.connection.execute(
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"
    )
    following = SMALLEST
    while following <= LARGEST and (row := cursor.execute(page(following)).fetchone()) and row["h0"] is not None:
        yield Chunk(*row.values())
        following = int(row["h0"][-1]) + 1
    source.connection.execute("SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on; SET LOCAL enable_sort = on")


def _picked(source: Source, which: sql.Composable, cursor: psycopg.Cursor[Row]) -> Iterator[Chunk]:
    gathered, terms = _gathered(source)
    source.connection.execute(
        sql.SQL(
            """DECLARE picked NO SCROLL CURSOR FOR SELECT {} FROM (
            SELECT *, (row_number() OVER (ORDER BY h0) - 1) / {} AS page FROM (SELECT {} FROM {} t WHERE {} OFFSET 0) h
            ) p GROUP BY page ORDER BY page"""
        ).format(gathered, sql.Literal(PAGE), terms, source.rows, which)
    )
    while row := cursor.execute("FETCH 1 FROM picked").fetchone():
        yield Chunk(*row.values()).in_order()
    source.connection.execute("CLOSE picked")


def _buckets(source: Source, cursor: psycopg.Cursor[Row]) -> Iterator[Chunk]:
    rows = one(source.connection, sql.SQL("SELECT count(*) AS n FROM {} t").format(source.rows))["n"]
    gathered, terms = _gathered(source)
    source.connection.execute(
        sql.SQL(
            "DECLARE hashes NO SCROLL CURSOR FOR SELECT {} FROM (SELECT {} FROM {} t) h GROUP BY {b} ORDER BY {b}"
        ).format(
            gathered, terms, source.rows, b=sql.SQL("h0 >> {}").format(sql.Literal(64 - (2 * rows // PAGE).bit_length() - 1))
        )
    )
    while row := cursor.execute("FETCH 1 FROM hashes").fetchone():
        yield Chunk(*row.values()).in_order()
    source.connection.execute("CLOSE hashes")
