"""Passes over ranges of pages take every line of each range once."""

import threading
from collections.abc import Sequence

import pytest

from runbook_lib.postgres.backfill_removal.throttle import AT_ONCE, PASSES, STRIDE, Lines, Throttle, in_passes
from runbook_lib.postgres.page_ranges import Range

NONE, FEW, MANY = (0, 100), (100, 200), (200, 300)


class Told(Throttle):
    """A pace that lets everything begin at once, and keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, cleared: int) -> None:
        self.rows.append(cleared)


def worked(ranges: dict[Range, Sequence[Lines]], failed: threading.Event | None = None) -> list[tuple[Range, Lines]]:
    done: list[tuple[Range, Lines]] = []

    def work(pages: Range, lines: Lines) -> int:
        done.append((pages, lines))
        return 1

    in_passes(ranges, Told(), failed or threading.Event(), work, 0)
    return done


@pytest.mark.parametrize("passes", [PASSES, AT_ONCE])
def test_every_line_is_taken_once(passes: Sequence[Lines]) -> None:
    done = worked({MANY: passes})

    assert [line for _, (first, last) in done for line in range(first, last + 1)] == list(range(STRIDE))


def test_each_range_has_its_own_passes() -> None:
    done = worked({NONE: (), FEW: AT_ONCE, MANY: PASSES})

    assert [lines for pages, lines in done if pages == NONE] == []
    assert [lines for pages, lines in done if pages == FEW] == list(AT_ONCE)
    assert [lines for pages, lines in done if pages == MANY] == list(PASSES)


def test_passes_over_one_range_alternate_with_those_over_another() -> None:
    done = worked({FEW: PASSES, MANY: PASSES})

    assert [pages for pages, _ in done] == [FEW, MANY] * len(PASSES)


def test_each_batch_is_reported_before_the_next_and_the_last_is_returned() -> None:
    pace, counts = Told(), iter(range(1, 100))

    last = in_passes({MANY: PASSES}, pace, threading.Event(), lambda *_: next(counts) * 1000, 7)

    assert pace.rows == [7, 1000, 2000, 3000]
    assert last == 4000


def test_nothing_more_is_begun_once_another_thread_has_failed() -> None:
    failed = threading.Event()
    failed.set()

    assert worked({MANY: PASSES}, failed) == []
