"""Sessions that one step uses again."""

from runbook_lib.postgres import Connection
from runbook_lib.postgres.connection import Postgres, one

LEFT = """SELECT current_setting('lock_timeout') AS timeout, to_regclass('pg_temp.rest') AS temporary,
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks"""


def pid(connection: Connection) -> int:
    return int(one(connection, "SELECT pg_backend_pid() AS it")["it"])


def test_a_kept_session_is_used_again_as_it_began_and_ends_with_the_block(postgres: Postgres) -> None:
    with postgres.sessions.kept():
        with postgres.connect() as first:
            used, as_begun = pid(first), one(first, LEFT)
            first.execute("SET lock_timeout = '7s'; CREATE TEMP TABLE rest (); SELECT pg_advisory_lock(7)")
        with postgres.connect() as again:
            assert (pid(again), one(again, LEFT)) == (used, as_begun)
    assert again.closed


def test_a_session_that_was_ended_while_it_was_kept_is_not_used_again(postgres: Postgres) -> None:
    with postgres.sessions.kept():
        with postgres.connect() as first:
            used = pid(first)
        with postgres.connect("postgres") as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [used])
        with postgres.connect() as again:
            assert pid(again) != used
