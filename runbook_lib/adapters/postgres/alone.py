"""A lock of the server's that one session alone holds, by a name; it dies with the session."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import errors

from runbook_lib.adapters.postgres.connection import Connection


def key_of(name: str) -> int:
    """The number by which the server knows the lock of that name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


@contextmanager
def alone(session: Connection, key: int, patience: str) -> Iterator[bool]:
    """Hold a lock while the block runs; tells whether it was to be had within `patience`, a time as the server reads it.

    It is let go before the session is closed: closing tells the server, which ends the session some time later, and whoever
    asks next would find it in the way. Changes nothing else.
    """
    got = _acquired(session, key, patience)
    try:
        yield got
    finally:
        if got:
            with suppress(psycopg.Error):
                session.execute("SELECT pg_advisory_unlock(%s)", [key])


def _acquired(session: Connection, key: int, patience: str) -> bool:
    try:
        with session.transaction():
            session.execute("SELECT set_config('lock_timeout', %s, true)", [patience])
            session.execute("SELECT pg_advisory_lock(%s)", [key])
    except errors.LockNotAvailable:
        return False
    return True
