"""A Dask scheduler and workers as processes of their own on loopback, as a team starts them."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed import Client, Security

from .waiting import until

SETTINGS = {
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    "DASK_DISTRIBUTED__WORKER__DAEMON": "false",
    "DASK_LOGGING__DISTRIBUTED": "error",
}
HERE = ("--host", "127.0.0.1", "--no-dashboard")
SECONDS = 60
EXTENSIONS = "subjectAltName=IP:127.0.0.1"
Process = subprocess.Popen[bytes]


class Cluster:
    """A scheduler, and the workers that a test has started."""

    def __init__(self, root: Path, tls: Path | None) -> None:
        self.root, self.tls = root, tls
        self.processes: list[Process] = []
        self.address = ""

    def client(self) -> Client:
        """A client of the test's own, to look at the scheduler."""
        files = files_in(self.tls) if self.tls else None
        security = Security(**files, require_encryption=True) if files else None
        return Client(self.address, security=security, set_as_default=False, timeout=SECONDS)

    def scheduler(self) -> None:
        """Start the scheduler, again at the same address once it was killed; wait until it listens."""
        file = self.root / f"scheduler-{len(self.processes)}.json"
        protocol = ("--protocol", "tls") if self.tls else ()
        port = self.address.rpartition(":")[2] or "0"
        self._start("scheduler", *HERE, "--port", port, *protocol, "--scheduler-file", file, role="scheduler")
        self.address = json.loads(until(lambda: file.is_file() and file.read_text(), "the scheduler listens"))["address"]

    def worker(self, preload: str = "", **variables: str) -> Process:
        """Start a worker in which `preload` is executed first, with those variables more; wait until it has joined."""
        (process,) = self.joined([preload], **variables)
        return process

    def joined(self, preloads: Sequence[str], **variables: str) -> list[Process]:
        """Start a worker for each of these preloads; wait until all have joined."""
        with self.client() as client:
            count = len(client.scheduler_info()["workers"]) + len(preloads)
            made = [self._worker(preload, **variables) for preload in preloads]
            until(
                lambda: any(each.poll() is not None for each in made) or len(client.scheduler_info()["workers"]) >= count,
                "they have joined",
            )
        assert [each.poll() for each in made] == [None] * len(made)
        return made

    @property
    def workers(self) -> list[Process]:
        """The workers that run."""
        return [process for process in self.processes[1:] if process.poll() is None]

    def without(self, *workers: Process) -> None:
        """Kill workers, and wait until the scheduler knows."""
        left = len(self.workers) - len(workers)
        with self.client() as client:
            for process in workers:
                process.kill()
                process.wait(SECONDS)
            until(lambda: len(client.scheduler_info()["workers"]) == left, "the scheduler knows")

    def addresses(self) -> list[str]:
        """The workers' addresses, as the scheduler knows them."""
        with self.client() as client:
            return [*client.scheduler_info()["workers"]]

    def said(self) -> str:
        """All that the scheduler and the workers have printed."""
        return "\n".join(path.read_text() for path in self.root.glob("*.log"))

    def _worker(self, preload: str, **variables: str) -> Process:
        found = []
        if preload:
            file = self.root / f"preload_{len(self.processes)}.py"
            file.write_text(preload)
            found = ["--preload", file]
        options = ("--nthreads", "2", "--no-nanny", "--memory-limit", "0")
        return self._start("worker", self.address, *HERE, *options, *found, **variables)

    def _start(self, what: str, *words: object, role: str = "worker", **variables: str) -> Process:
        keys = files_in(self.tls, role) if self.tls else {}
        options = [
            word for key, path in keys.items() for word in (f"--{key.replace('_', '-').replace(f'-{role}', '')}", path)
        ]
        command = [sys.executable, "-m", "dask", what, *map(str, words), *options]
        environment = {**os.environ, **SETTINGS, **variables}
        with open(self.root / f"{what}-{len(self.processes)}.log", "wb") as log:
            process = Process(command, stdout=log, stderr=log, env=environment, cwd=self.root, start_new_session=True)
        self.processes.append(process)
        return process


@contextmanager
def cluster(root: Path, *, tls: bool = False) -> Iterator[Cluster]:
    """A scheduler that has no worker yet, until the block ends."""
    root.mkdir()
    made = Cluster(root, certificates(root / "tls") if tls else None)
    try:
        made.scheduler()
        yield made
    finally:
        for process in reversed(made.processes):
            process.kill()
            process.wait(SECONDS)


def certificates(folder: Path) -> Path:
    """A folder with an authority's certificate and one that it signed for loopback, made by openssl."""
    folder.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    authority = ("-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    signed = ("-x509", "-days", "2", "-subj", "/CN=loopback", "-keyout", "own.key", "-out", "own.pem")
    by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", EXTENSIONS, "-addext", "basicConstraints=critical,CA:false")
    for words in (authority, (*signed, *by)):
        subprocess.run(["openssl", "req", *key, *words], cwd=folder, check=True, capture_output=True, timeout=SECONDS)
    return folder


def files_in(folder: Path, role: str = "client") -> dict[str, str]:
    """The files of that folder, by Dask's keys for a role."""
    keys = {"tls_ca_file": "ca.pem", f"tls_{role}_cert": "own.pem", f"tls_{role}_key": "own.key"}
    return {key: str(folder / name) for key, name in keys.items()}


class Link:
    """An address that leads to a scheduler, and all that has passed: a stream for each connection and direction."""

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("tcp://").split(":")
        self.streams: list[bytearray] = []
        self._to, self._opened = (host, int(port)), [socket.create_server(("127.0.0.1", 0))]
        self.address = f"tcp://127.0.0.1:{self._opened[0].getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def passed(self, text: str) -> bool:
        """Whether a text has passed."""
        return any(text.encode() in bytes(stream) for stream in self.streams)

    def close(self) -> None:
        """End every connection, and take no other."""
        for each in self._opened:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, server = self._opened[0].accept()[0], socket.create_connection(self._to)
                self._opened.extend((client, server))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._hand_on, args=pair, daemon=True).start()

    def _hand_on(self, source: socket.socket, to: socket.socket) -> None:
        self.streams.append(stream := bytearray())
        with suppress(OSError):
            while data := source.recv(1 << 16):
                stream.extend(data)
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)


@contextmanager
def recorded(address: str) -> Iterator[Link]:
    """A link to the scheduler at that address, until the block ends."""
    link = Link(address)
    try:
        yield link
    finally:
        link.close()
