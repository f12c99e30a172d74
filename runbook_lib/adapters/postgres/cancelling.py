"""Cancels what a run's sessions are doing, where their own thread cannot be woken."""

from runbook_lib.adapters.postgres.connection import MAINTENANCE, Postgres


def cancel(postgres: Postgres) -> int:
    """Cancel every statement that sessions of this run are at; returns how many.

    The transactions concerned are rolled back by the server.

    Raises:
        AdapterError: The server cannot be reached.
    """
    with postgres.connect(MAINTENANCE) as connection:
        return len(
            connection.execute(
                """SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                   WHERE application_name = %s AND state = 'active' AND pid <> pg_backend_pid()""",
                [postgres.application_name],
            ).fetchall()
        )
