"""XML-RPC over a Unix socket, as supervisord speaks it."""

import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy, Transport

CALL_SECONDS = 10.0


def call(path: Path, method: str, *arguments: Any) -> Any:
    """What supervisord answers to one call, on a connection of its own.

    Raises:
        OSError: The socket is missing, refuses, or is silent for too long.
        http.client.HTTPException: What answers speaks no HTTP.
        xmlrpc.client.Fault: supervisord refuses what is asked.
        xmlrpc.client.Error: What answers is no supervisord.
    """
    with ServerProxy("http://localhost", transport=_UnixTransport(path), allow_none=True) as server:
        return getattr(server.supervisor, method)(*arguments)


class _UnixTransport(Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> HTTPConnection:
        return _UnixConnection(self._path)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
