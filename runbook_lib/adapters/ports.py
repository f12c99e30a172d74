"""Whether anything listens at an address."""

import socket
from urllib.parse import urlsplit

from runbook_lib.errors import AdapterError

SECONDS = 3.0
DEFAULTS = {"http": 80, "https": 443}


def is_open(address: str) -> bool:
    """Whether a connection to a URL's host and port, or to host:port, is accepted; refused is the one no. Read-only.

    Raises:
        AdapterError: It cannot be told: the host is not known, or does not answer.
    """
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        port = parts.port or DEFAULTS[parts.scheme]
        with socket.create_connection((parts.hostname or "", port), timeout=SECONDS):
            return True
    except ConnectionRefusedError:
        return False
    except (OSError, KeyError, ValueError) as error:
        raise AdapterError(
            f"Whether anything listens at {address} cannot be told: {error or type(error).__name__}.",
            where=address,
            state="Nothing was changed.",
            safe_next="Mend the address under listens in the target, or the way there.",
        ) from None
