"""The worker: keeps telling the database that it lives, and which version it is."""

import logging
import time

import psycopg
from main import configure_logging
from version import VERSION

INTERVAL = 0.5
HEARTBEAT = """
    INSERT INTO worker_heartbeats (worker, version, seen_at) VALUES ('worker', %s, clock_timestamp())
    ON CONFLICT (worker) DO UPDATE SET version = excluded.version, seen_at = excluded.seen_at
"""

logger = logging.getLogger("worker")


def work() -> None:
    """Write heartbeats until the database fails."""
    with psycopg.connect(autocommit=True, connect_timeout=2) as connection:
        while True:
            connection.execute(HEARTBEAT, [VERSION])
            time.sleep(INTERVAL)


def main() -> None:
    configure_logging()
    logger.info("worker version %s started", VERSION)
    while True:
        try:
            work()
        except psycopg.Error as error:
            logger.warning("no heartbeat written, trying again: %s", " ".join(str(error).split()))
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main()
