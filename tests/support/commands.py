"""A command line in this process."""

import re
from collections.abc import Callable
from typing import Any

Said = tuple[int, str, str]
Command = Callable[..., Said]


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


def words(text: str) -> str:
    """A text as printed, its broken lines joined, and the frames of its tables made spaces."""
    return " ".join(re.sub(r"[│┃|]|-\+-|\\\n", " ", text).split())
