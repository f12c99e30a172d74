"""The sessions that others hold on the database: who they are, and ending some of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import errors

from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.errors import PreconditionError


@dataclass(frozen=True)
class Session:
    """A client's session; its pid and start together name it, since pids are used again."""

    pid: int
    started: str
    user: str
    program: str
    state: str
    seconds: float  # since its state last changed
    query: str

    @property
    def name(self) -> str:
        """What names it for an approval."""
        return f"pid {self.pid} since {self.started} ({self.user}, {self.program or 'no name'})"

    def __str__(self) -> str:
        return f"{self.name}, {self.state or 'state not seen'} for {self.seconds:.0f} s: {self.query[:80] or 'no query'}"


def of_others(connection: Connection) -> list[Session]:
    """The sessions on this database but for the runbook's own, by their pid. Read-only."""
    rows = connection.execute(
        """SELECT pid, backend_start::text AS started, coalesce(usename, '') AS user, application_name AS program,
                  coalesce(state, '') AS state, left(query, 200) AS query,
                  coalesce(extract(epoch FROM clock_timestamp() - state_change), 0)::float AS seconds
           FROM pg_stat_activity
           WHERE datname = current_database() AND backend_type = 'client backend'
             AND NOT (usename = current_user AND application_name LIKE 'runbook %') ORDER BY pid"""
    )
    return [Session(**row) for row in rows]


def end(connection: Connection, sessions: Iterable[Session]) -> list[str]:
    """End sessions that are still the ones named; returns those that were. Changes the server's sessions.

    Raises:
        PreconditionError: Our role may not end one of them; those before it are ended.
    """
    ended: list[str] = []
    for session in sessions:
        try:
            row = connection.execute(
                """SELECT pg_terminate_backend(pid) AS it FROM pg_stat_activity
                   WHERE pid = %s AND backend_start::text = %s""",
                [session.pid, session.started],
            ).fetchone()
        except errors.InsufficientPrivilege as error:
            raise PreconditionError(
                f"{session.name} may not be ended by our role: {str(error).strip()}.",
                state=f"Ended before it: {', '.join(ended) or 'none'}.",
                safe_next="Have it ended by its owner or a superuser; then run the step again.",
            ) from None
        if row and row["it"]:
            ended.append(session.name)
    return ended
