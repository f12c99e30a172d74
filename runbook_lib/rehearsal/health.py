"""Whether the services of a stack do their work."""

from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psycopg

from runbook_lib.rehearsal.database import Database

REQUEST_SECONDS = 3.0
_opener = build_opener(ProxyHandler({}))


def backend_healthy(url: str) -> bool:
    """Tell whether the backend and its database answer. Read-only."""
    return _answers(f"{url}/health")


def frontend_healthy(url: str) -> bool:
    """Tell whether the frontend serves its page. Read-only."""
    return _answers(url)


def worker_healthy(database: Database) -> bool:
    """Tell whether the worker has written a heartbeat. Read-only."""
    with psycopg.connect(database.conninfo(database.runbook)) as connection:
        return connection.execute("SELECT FROM worker_heartbeats").fetchone() is not None


def _answers(url: str) -> bool:
    try:
        with _opener.open(url, timeout=REQUEST_SECONDS) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False
