"""When catching up with captured writes ends, and when it gives up."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import pytest
from psycopg import errors, sql

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.change_capture import FEW, MOST, ROUNDS, ChangeCapture

CAPTURE = ChangeCapture(sql.Identifier("public", "messages"), "id", "test", "capture")


class Counting:
    """A connection on which so many keys are captured."""

    def __init__(self, captured: int) -> None:
        self.captured = captured

    def execute(self, *_: object) -> "Counting":
        return self

    def fetchone(self) -> dict[str, int]:
        return {"n": self.captured}


def rounds(captured: int, taken: Iterator[int | type[Exception]]) -> tuple[list[object], Callable[[], None]]:
    """The rounds gone so far, and what catches up; each round takes the next number of keys, or fails."""
    gone: list[object] = []

    def take_some() -> int:
        gone.append(found := next(taken))
        if not isinstance(found, int):
            raise found
        return found

    connection: Any = Counting(captured)
    return gone, lambda: CAPTURE.catch_up(connection, take_some)


def test_it_ends_once_few_are_left() -> None:
    gone, catch_up = rounds(MOST, iter([MOST, FEW + 1, FEW]))

    catch_up()

    assert gone == [MOST, FEW + 1, FEW]


def test_a_backlog_is_worked_off_however_long_it_is() -> None:
    backlog = 50 * ROUNDS
    gone, catch_up = rounds(backlog * MOST, chain(repeat(MOST, backlog), [0]))

    catch_up()

    assert len(gone) == backlog + 1


def test_it_gives_up_where_others_write_faster() -> None:
    gone, catch_up = rounds(0, repeat(FEW + 1))

    with pytest.raises(PreconditionError, match="writes faster"):
        catch_up()

    assert len(gone) == ROUNDS


def test_whoever_keeps_rows_locked_is_left_to_the_lock_of_the_table() -> None:
    gone, catch_up = rounds(0, repeat(errors.LockNotAvailable))

    catch_up()

    assert len(gone) == ROUNDS
