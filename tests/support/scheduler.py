"""A Dask scheduler and its workers as processes of their own on loopback, and a relay before the scheduler."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .waiting import until

SETTINGS = {
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    "DASK_DISTRIBUTED__WORKER__DAEMON": "false",
    "DASK_LOGGING__DISTRIBUTED": "error",
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@dataclass
class Cluster:
    """A scheduler on a port that stays the same, and workers; each may be killed and started again."""

    root: Path
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def scheduler(self) -> subprocess.Popen[bytes]:
        """Start the scheduler; it answers."""
        made = self._started("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--no-show")
        until(lambda: answers(self.port), "the scheduler answers")
        return made

    def worker(self) -> subprocess.Popen[bytes]:
        """Start a worker with two threads; its parent is this process."""
        options = [
            "--nthreads",
            "2",
            "--no-nanny",
            "--no-dashboard",
            "--host",
            "127.0.0.1",
            "--local-directory",
            str(self.root),
        ]
        return self._started("worker", self.address, *options)

    def _started(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        command: Sequence[str] = (sys.executable, "-m", f"distributed.cli.dask_{program}", *options)
        log = (self.root / f"{program}-{len(self.processes)}.log").open("wb")
        with log:
            made = subprocess.Popen(command, env=os.environ | SETTINGS, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append(made)
        return made

    def end(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(20)


@contextmanager
def clustered(root: Path) -> Iterator[Cluster]:
    """A cluster whose processes end with the block; none runs yet."""
    made = Cluster(root)
    try:
        yield made
    finally:
        made.end()


class PortRelay:
    """Hands on what both sides of a port of loopback say, until every connection is cut."""

    def __init__(self, port: int) -> None:
        self._to, self._sockets = port, list[socket.socket]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection, and take no other."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._to))
                self._sockets += [client, server]
                for source, to in ((client, server), (server, client)):
                    threading.Thread(target=self._hand_on, args=(source, to), daemon=True).start()

    @staticmethod
    def _hand_on(source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                to.sendall(data)
        with suppress(OSError):
            to.shutdown(socket.SHUT_RDWR)
