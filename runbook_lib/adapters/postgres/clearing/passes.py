"""Passes over ranges of pages, each taking more of a page's lines than the one before, so that rows find room in their page.

The first moves a few row versions to other pages, or into the page's last free bytes; once those are pruned each later pass
finds room in the page itself and leaves the indexes alone (a HOT update), and where rows get smaller by it, the room grows.
Passes over one range alternate with those over others, so that no snapshot of this run's own keeps the old versions alive.
Where the first finds few rows, a second takes all that are left: these find room anyway, and each pass reads every line.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from psycopg import sql

from runbook_lib.adapters.postgres.clearing.crew import Range
from runbook_lib.adapters.postgres.clearing.pacing import Pace

Lines = tuple[int, int]  # of a page, modulo STRIDE: the first and the last
STRIDE = 64
PASSES: tuple[Lines, ...] = ((0, 3), (4, 7), (8, 13), (14, 22), (23, 63))
TOGETHER = 4  # ranges whose passes alternate
SPARSE = 0.1  # of a page's lines; where fewer hold a row to be written, one pass takes all that the first has left


def in_passes(
    ranges: Sequence[Range], pace: Pace, failed: threading.Event, work: Callable[[Range, Lines], int], untold: int
) -> int:
    """Have `work` done on these ranges pass by pass, until another thread has failed. Changes what `work` changes.

    Args:
        ranges: Pages of the table.
        pace: Stands before each batch, and is told of the rows of the one before.
        failed: Is set once another thread has failed.
        work: Is given a range and lines of its pages, and returns the rows that it wrote.
        untold: The rows of the last batch before these, of which `pace` was not told.

    Returns the rows of the last batch, of which `pace` was not told.
    """
    found: dict[Range, int] = {}
    for pages, lines in _batches(ranges, found):
        pace(untold)
        if failed.is_set():
            return 0
        untold = work(pages, lines)
        found.setdefault(pages, untold)
    return untold


def among(lines: Lines) -> sql.Composed:
    """That a row stands on one of these lines: the last byte of its place is the line's number, modulo 256."""
    return sql.SQL("(get_byte(tidsend(t.ctid), 5) & {}) BETWEEN {} AND {}").format(
        sql.Literal(STRIDE - 1), *(sql.Literal(number) for number in lines)
    )


def _batches(ranges: Sequence[Range], found: Mapping[Range, int]) -> Iterator[tuple[Range, Lines]]:
    """What to work on, one after the other; `found` tells the rows of each range's first pass once that is done."""
    first, *later = PASSES
    for pages in ranges:
        yield pages, first
    looked_at = first[1] - first[0] + 1
    sparse = [pages for pages in ranges if found[pages] < SPARSE * looked_at * (pages[1] - pages[0])]
    for pages in sparse:
        yield pages, (later[0][0], later[-1][1])
    for lines in later:
        for pages in ranges:
            if pages not in sparse:
                yield pages, lines
