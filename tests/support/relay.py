"""A relay between a client and a PostgreSQL socket: as it is, or a network that is slow or lost, or a pooler."""

import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

NAME = ".s.PGSQL.5432"
COMMIT = b"COMMIT\x00"


class Relay:
    """Hands on what clients and the server say, until a client's connection is cut.

    A session of the server whose client is gone stays open until the relay ends, as after the loss of a network.
    """

    def __init__(self, server: Path, directory: Path) -> None:
        self.server, self.directory = server, directory
        self.cut_before: bytes | None = None  # what a client says and the server must not hear
        self.cut_after: bytes | None = None  # what the server hears, and whose answer the client must not
        self._unheard: set[socket.socket] = set()  # clients that are cut off as soon as their answer comes
        self._clients: list[socket.socket] = []
        self._sockets: list[socket.socket] = []
        self._listener = self._kept(socket.socket(socket.AF_UNIX))
        self._listener.bind(str(directory / NAME))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every client's connection; the server does not hear of it."""
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _kept(self, opened: socket.socket) -> socket.socket:
        self._sockets.append(opened)
        return opened

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, server = self._kept(self._listener.accept()[0]), self._kept(socket.socket(socket.AF_UNIX))
                server.connect(str(self.server / NAME))
                self._clients.append(client)
                for way in ((client, server, self._says), (server, client, self._hears)):
                    threading.Thread(target=self._hand_on, args=way, daemon=True).start()

    def _hand_on(self, source: socket.socket, to: socket.socket, hook: Callable[..., bool]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not hook(data, source, to):
                    return
        if hook == self._hears:  # a server that ends a session is heard of
            with suppress(OSError):
                to.shutdown(socket.SHUT_RDWR)

    def _says(self, data: bytes, client: socket.socket, server: socket.socket) -> bool:
        if self.cut_before and self.cut_before in data:
            client.shutdown(socket.SHUT_RDWR)
            return False
        if self.cut_after and self.cut_after in data:
            self._unheard.add(client)
        server.sendall(data)
        return True

    def _hears(self, data: bytes, server: socket.socket, client: socket.socket) -> bool:
        if client in self._unheard:
            client.shutdown(socket.SHUT_RDWR)
            return False
        client.sendall(data)
        return True


class Far(Relay):
    """A server at the end of a long way: what a client says arrives that much later."""

    away = 0.01  # seconds

    def _says(self, data: bytes, client: socket.socket, server: socket.socket) -> bool:
        time.sleep(self.away)
        return super()._says(data, client, server)


class FarBothWays(Far):
    """The same, and what the server says takes as long."""

    def _hears(self, data: bytes, server: socket.socket, client: socket.socket) -> bool:
        time.sleep(self.away)
        return super()._hears(data, server, client)


class Pooler(Relay):
    """Gives a client's transactions the sessions of a pool in turn, and keeps its settings to itself."""

    conninfo = ""

    def _accept(self) -> None:
        pool = [psycopg.connect(self.conninfo) for _ in range(2)]
        with suppress(OSError):
            while True:
                client = self._kept(self._listener.accept()[0])
                threading.Thread(target=self._serve, args=(client, pool), daemon=True).start()

    def _serve(self, client: socket.socket, pool: list[psycopg.Connection]) -> None:
        with suppress(OSError):
            if not client.recv(65536):
                return
            client.sendall(message(b"R", struct.pack("!i", 0)))
            for name, value in (
                ("client_encoding", "UTF8"),
                ("server_version", "15.0"),
                ("standard_conforming_strings", "on"),
            ):
                client.sendall(message(b"S", f"{name}\0{value}\0".encode()))
            client.sendall(message(b"K", struct.pack("!ii", 4711, 1)) + message(b"Z", b"I"))
            turn = 0
            while data := client.recv(65536):
                with socket.socket(fileno=os.dup(pool[turn % 2].fileno())) as server:
                    server.setblocking(True)
                    server.sendall(data)
                    answer = b""
                    while not answer.endswith((b"Z\0\0\0\x05I", b"Z\0\0\0\x05T")):
                        if not (heard := server.recv(65536)):
                            return  # the session has ended; who asks a closed socket again is answered at once, for ever
                        answer += heard
                    client.sendall(answer)
                turn += answer.endswith(b"I")


class Strict(Relay):
    """A pooler that knows no settings in a connection's beginning."""

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._kept(self._listener.accept()[0])
                client.recv(65536)
                said = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
                client.sendall(message(b"E", said))
                client.close()


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


@contextmanager
def relaying(kind: Callable[[Path, Path], Relay], server: Path) -> Iterator[Relay]:
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as directory:
        relay = kind(server, Path(directory))
        try:
            yield relay
        finally:
            relay.close()
