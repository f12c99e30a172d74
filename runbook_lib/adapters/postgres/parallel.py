"""Has the server use all its cores for one query, for when nobody else needs them."""

from collections.abc import Iterator
from contextlib import contextmanager

from runbook_lib.adapters.postgres.connection import Connection

_SETTINGS = """SET LOCAL max_parallel_workers_per_gather = 2; SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0; SET LOCAL enable_nestloop = off"""


@contextmanager
def in_parallel(connection: Connection, wanted: bool = True) -> Iterator[None]:
    """A transaction whose queries may use several cores, where that is wanted. Changes what the block changes."""
    with connection.transaction():
        if wanted:
            connection.execute(_SETTINGS)
        yield
