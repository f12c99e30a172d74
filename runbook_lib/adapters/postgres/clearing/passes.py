"""Passes over ranges of pages, each taking more of a page's lines than the one before, so that rows find room in their page.

The first moves a few row versions to other pages, or into the page's last free bytes; once those are pruned each later pass
finds room in the page itself and leaves the indexes alone (a HOT update), and where rows get smaller by it, the room grows.
Passes over one range alternate with those over others, so that no snapshot of this run's own keeps the old versions alive.
Where few rows are to be written one pass is enough: these find room anyway, and each pass reads every line.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.clearing.crew import Range, within
from runbook_lib.adapters.postgres.clearing.pacing import Pace
from runbook_lib.adapters.postgres.connection import Connection, one

Lines = tuple[int, int]  # of a page, modulo STRIDE: the first and the last
STRIDE = 64
PASSES: Sequence[Lines] = ((0, 3), (4, 10), (11, 23), (24, 63))
AT_ONCE: Sequence[Lines] = ((0, 63),)
TOGETHER = 4  # ranges whose passes alternate
SLICES, SLICE = 4, 8  # of a range, and the pages of each, that tell how many rows are to be written in it
FEW = 3  # rows a page


def passes_of(connection: Connection, backfill: Backfill, pages: Range, wanted: sql.Composable) -> Sequence[Lines]:
    """The passes by which the wanted rows `t` of a range are best written: none where there is no such row. Read-only."""
    slices = _slices(pages)
    count = sql.SQL("(SELECT count(*) FROM {table} t WHERE {within} AND {wanted})")
    query = sql.SQL("SELECT EXISTS (SELECT FROM {table} t WHERE {within} AND {wanted}) AS any, {counted} AS n").format(
        table=backfill.table,
        within=within("t", pages),
        wanted=wanted,
        counted=sql.SQL(" + ").join(
            count.format(table=backfill.table, within=within("t", each), wanted=wanted) for each in slices
        ),
    )
    found = one(connection, query)
    if not found["any"]:
        return ()
    return PASSES if found["n"] > FEW * sum(beyond - first for first, beyond in slices) else AT_ONCE


def in_passes(
    ranges: Mapping[Range, Sequence[Lines]],
    pace: Pace,
    failed: threading.Event,
    work: Callable[[Range, Lines], int],
    untold: int,
) -> int:
    """Have `work` done on ranges of pages pass by pass, until another thread has failed. Changes what `work` changes.

    Args:
        ranges: Pages of the table, and the passes over them.
        pace: Stands before each batch, and is told of the rows of the one before.
        failed: Is set once another thread has failed.
        work: Is given a range and lines of its pages, and returns the rows that it wrote.
        untold: The rows of the last batch before these, of which `pace` was not told.

    Returns the rows of the last batch, of which `pace` was not told.
    """
    for number in range(len(PASSES)):
        for pages, passes in ranges.items():
            if number >= len(passes):
                continue
            pace(untold)
            if failed.is_set():
                return 0
            untold = work(pages, passes[number])
    return untold


def among(lines: Lines) -> sql.Composed:
    """That a row stands on one of these lines: the last byte of its place is the line's number, modulo 256."""
    return sql.SQL("(get_byte(tidsend(t.ctid), 5) & {}) BETWEEN {} AND {}").format(
        sql.Literal(STRIDE - 1), *(sql.Literal(number) for number in lines)
    )


def _slices(pages: Range) -> list[Range]:
    first, beyond = pages
    step = (beyond - first) // SLICES
    return [(first + n * step, first + n * step + SLICE) for n in range(SLICES)] if step > SLICE else [pages]
