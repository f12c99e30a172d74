"""Asks pm2's daemon through its socket, as pm2's own commands do, which take half a second to load."""

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from runbook_lib.errors import AdapterError

CONNECT_SECONDS = 5.0
VERSION = 1  # of the frames: a byte with it and the number of parts, then each part after its length
JSON = b"j:"  # begins a part that holds JSON
ID = b"s:runbook:0"


def listed(home: Path, timeout: float) -> list[Any]:
    """The processes of the daemon of a PM2_HOME, each with its whole environment, as `pm2 jlist` prints them. Read-only.

    Raises:
        AdapterError: No daemon listens there, or it does not answer; nothing of an answer is in it.
    """
    answer = _called(home / "rpc.sock", "getMonitorData", timeout)
    with suppress(ValueError, KeyError, TypeError, IndexError):
        [processes] = json.loads(answer)["args"]
        if isinstance(processes, list):
            return processes
    raise AdapterError("pm2's daemon sent no list of processes.")


def _called(path: Path, method: str, timeout: float) -> bytes:
    """Return what the daemon answers to one call, as JSON; b"" where that is cut short or no JSON."""
    call = JSON + json.dumps({"type": "call", "method": method, "args": [{}]}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(CONNECT_SECONDS)
        try:
            client.connect(str(path))
        except OSError as error:
            raise AdapterError(f"No pm2 daemon listens there: {error.strerror or error}.") from None
        client.settimeout(timeout)
        try:
            client.sendall(_frame(call, ID))
            with client.makefile("rb") as stream:
                return _json(stream)
        except OSError as error:
            raise AdapterError(f"pm2's daemon did not answer: {error.strerror or error}.") from None


def _frame(*parts: bytes) -> bytes:
    return bytes([VERSION << 4 | len(parts)]) + b"".join(len(part).to_bytes(4) + part for part in parts)


def _json(stream: BinaryIO) -> bytes:
    """Return the first part of a frame, where that is JSON."""
    stream.read(1)
    part = stream.read(int.from_bytes(stream.read(4)))
    return part[len(JSON) :] if part.startswith(JSON) else b""
