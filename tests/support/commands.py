"""A command line in this process."""

from collections.abc import Callable
from typing import Any

Said = tuple[int, str, str]
Command = Callable[..., Said]


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail
