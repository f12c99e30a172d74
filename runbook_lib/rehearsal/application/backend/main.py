"""Starts the API: migrations first, then requests."""

import argparse
import logging
import sys
import time

import psycopg
import uvicorn
from migrate import MissingMigration, migrate
from version import VERSION

logger = logging.getLogger("backend")


def configure_logging() -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stdout,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    configure_logging()
    logger.info("backend version %s started", VERSION)
    try:
        migrate()
    except MissingMigration as error:
        logger.error("refusing to start: %s", error)
        return 3
    except psycopg.OperationalError as error:
        logger.warning("database unavailable, migrations not checked: %s", " ".join(str(error).split()))
    uvicorn.run("api:app", port=port, log_config=None, access_log=False, timeout_graceful_shutdown=3)
    return 0


if __name__ == "__main__":
    sys.exit(main())
