"""Compare two copies of a table by blocks of rows on their servers, so that only blocks that differ are streamed.

A block is the rows whose key hashes agree in their low bits, so blocks are alike in size for any keys. For each block the
server returns the number of rows, and the bit_xor of two 64-bit hashes of each row's key and columns. A difference between
blocks goes unnoticed only in a collision of 128 bits. Streamed rows are compared by 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.restore.difference_kinds import Hashes
from runbook_lib.postgres.restore.pair import Pair
from runbook_lib.postgres.restore.shape import Table, comparable
from runbook_lib.postgres.restore.stream import BIGINTS, BigintArray

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST = 20_000  # smaller tables are streamed without a look at blocks
ROWS, MOST = 64, 1 << 18  # rows per block; largest number of blocks
SAMPLED = 64  # one block in so many is checked first
WORTH = 0.5  # share of differing blocks above which all rows are streamed

T = TypeVar("T")


@dataclass(frozen=True)
class Blocks:
    """The rows of two copies to stream, as a condition on a row `t`, and the counts of the others."""

    differing: sql.Composable
    live: int
    backup: int


def blocks(live: Connection, backup: Connection, pair: Pair) -> Blocks | None:
    """Return the blocks that differ; None if streaming all rows is better, as for small tables. Read-only."""
    import numpy as np  # here, since few runs compare databases, and it is slow to load

    rows = max(at_once(lambda: _rows(live, pair.live), lambda: _rows(backup, pair.backup)))
    if rows < FEWEST:
        return None
    number = min(1 << (rows // ROWS).bit_length(), MOST)
    block = sql.SQL("({} & {})").format(_of_key(pair), sql.Literal(number - 1))

    def summed(condition: str) -> tuple[_Sums, _Sums]:
        which = sql.SQL(condition).format(block=block, mask=sql.Literal(SAMPLED - 1))
        return at_once(
            lambda: _sums(live, pair, pair.live, block, number, which),
            lambda: _sums(backup, pair, pair.backup, block, number, which),
        )

    first = [summed("{block} & {mask} = 0")]
    if np.count_nonzero(first[0][0].differ(first[0][1])) > WORTH * number / SAMPLED:
        return None
    pairs = [*first, summed("{block} & {mask} <> 0")]
    differ = np.logical_or.reduce([here.differ(there) for here, there in pairs])
    if np.count_nonzero(differ) > WORTH * number:
        return None
    equal = [sum(int(of[side].rows[~differ].sum()) for of in pairs) for side in (0, 1)]
    found = sql.SQL("{} = ANY ({}::bigint[])").format(block, sql.Literal(np.flatnonzero(differ).tolist()))
    return Blocks(found, *equal)


def at_once(first: Callable[[], T], second: Callable[[], T]) -> tuple[T, T]:
    """Make two calls at the same time, each on its own connection, and return both results.

    Raises:
        Exception: The exception of either call, once both have ended.
    """
    with ThreadPoolExecutor(1) as other:
        found = other.submit(second)
        return first(), found.result()


@dataclass(frozen=True)
class _Sums:
    """Per block: the number of its rows, and the bit_xor of each of their hashes."""

    rows: Hashes
    hashes: tuple[Hashes, Hashes]

    def differ(self, other: _Sums) -> NDArray[np.bool_]:
        """Return a mask of the blocks that differ."""
        import numpy as np

        pairs = zip((self.rows, *self.hashes), (other.rows, *other.hashes), strict=True)
        differing: NDArray[np.bool_] = np.logical_or.reduce([mine != theirs for mine, theirs in pairs])
        return differing


def _rows(connection: Connection, table: Table) -> int:
    """Return about how many rows a table has, by the planner's statistics if it has any."""
    name = sql.Identifier(*table.id).as_string(connection)
    known = one(connection, "SELECT reltuples AS n FROM pg_class WHERE oid = %s::regclass", [name])
    if known["n"] > 0 and table.seen_as is None:
        return int(known["n"])
    return int(one(connection, sql.SQL("SELECT count(*) AS n FROM {} t").format(table.rows))["n"])


def _of_key(pair: Pair) -> sql.Composable:
    """Return a hash of a row's key; for a number one that spreads, because keys may have gaps of any size."""
    return sql.SQL("hashint8extended({}::bigint, 0)").format(pair.place) if pair.numbered else pair.place


def _sums(
    connection: Connection, pair: Pair, table: Table, block: sql.Composable, number: int, which: sql.Composable
) -> _Sums:
    import numpy as np

    terms = comparable(pair.live, pair.backup, pair.shared)
    query = sql.SQL("""SELECT array_agg(b) AS b, array_agg(n) AS n, array_agg(x) AS x, array_agg(y) AS y FROM (
        SELECT b, count(*) AS n, bit_xor(hash_record_extended(r, 0)) AS x, bit_xor(hash_record_extended(r, 1)) AS y
        FROM (SELECT {block} AS b, ROW({terms}) AS r FROM {rows} t WHERE {which} OFFSET 0) h GROUP BY b) s""").format(
        block=block, terms=sql.SQL(", ").join(terms), rows=table.rows, which=which
    )
    connection.execute("SET LOCAL enable_hashagg = on")
    with connection.cursor(binary=True) as cursor:
        cursor.adapters.register_loader(BIGINTS, BigintArray)
        row = cursor.execute(query).fetchone()
    connection.execute("SET LOCAL enable_hashagg = off")
    found = np.zeros((3, number), dtype=np.int64)
    if row is not None and row["b"] is not None:
        found[:, row["b"]] = row["n"], row["x"], row["y"]
    return _Sums(found[0], (found[1], found[2]))
