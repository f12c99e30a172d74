"""The environment of a stack, for as long as it is worked on."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def settled_in(environment: Mapping[str, str]) -> Iterator[None]:
    """Have this process's environment hold that of a stack while the block runs."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
