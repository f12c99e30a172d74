"""Passes over ranges of pages take every line of each range once, in steps where many rows are to be written."""

import threading
from collections import Counter

import pytest

from runbook_lib.adapters.postgres.clearing.crew import Range
from runbook_lib.adapters.postgres.clearing.pacing import Pace
from runbook_lib.adapters.postgres.clearing.passes import PASSES, STRIDE, Lines, in_passes

SPARSE, DENSE = (0, 100), (100, 200)
LINES_OF_ONE = PASSES[0][1] - PASSES[0][0] + 1


class Told(Pace):
    """A pace that lets everything begin at once, and keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, cleared: int) -> None:
        self.rows.append(cleared)


def worked(ranges: list[Range], rows: dict[Range, int], failed: threading.Event | None = None) -> list[tuple[Range, Lines]]:
    done: list[tuple[Range, Lines]] = []

    def work(pages: Range, lines: Lines) -> int:
        done.append((pages, lines))
        return rows[pages]

    in_passes(ranges, Told(), failed or threading.Event(), work, 0)
    return done


@pytest.mark.parametrize("rows", [0, 1, 100 * LINES_OF_ONE])
def test_every_line_of_every_range_is_taken_once(rows: int) -> None:
    done = worked([SPARSE, DENSE], {SPARSE: rows, DENSE: 100 * LINES_OF_ONE})

    taken = Counter((pages, line) for pages, (first, last) in done for line in range(first, last + 1))
    assert taken == Counter((pages, line) for pages in (SPARSE, DENSE) for line in range(STRIDE))


def test_where_the_first_pass_finds_few_rows_a_second_takes_all_others() -> None:
    done = worked([SPARSE, DENSE], {SPARSE: 1, DENSE: 100 * LINES_OF_ONE})

    assert [lines for pages, lines in done if pages == SPARSE] == [PASSES[0], (PASSES[1][0], STRIDE - 1)]
    assert [lines for pages, lines in done if pages == DENSE] == list(PASSES)


def test_passes_over_one_range_alternate_with_those_over_another() -> None:
    ranges = [(0, 10), (10, 20)]

    done = worked(ranges, dict.fromkeys(ranges, 10 * LINES_OF_ONE))

    assert [pages for pages, _ in done] == ranges * len(PASSES)


def test_what_each_batch_wrote_is_told_before_the_next_and_the_last_is_given_back() -> None:
    pace, counts = Told(), iter(range(1, 100))

    last = in_passes([DENSE], pace, threading.Event(), lambda *_: next(counts) * 1000, 7)

    assert pace.rows == [7, 1000, 2000, 3000, 4000]
    assert last == 5000


def test_nothing_more_is_begun_once_another_thread_has_failed() -> None:
    failed = threading.Event()
    failed.set()

    assert worked([DENSE], {DENSE: 1}, failed) == []
