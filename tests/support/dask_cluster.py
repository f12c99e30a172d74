"""A Dask scheduler and workers as processes of their own on loopback, as a team starts them."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed import Client, Security

from .waiting import until

QUIET = {"DASK_LOGGING__DISTRIBUTED": "error", "DASK_DISTRIBUTED__WORKER__DAEMON": "false"}
SHARED = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
SECONDS = 60
EXTENSIONS = "subjectAltName=IP:127.0.0.1"


class Cluster:
    """A scheduler, and the workers that a test has started."""

    def __init__(self, root: Path, tls: Path | None) -> None:
        self.root, self.tls = root, tls
        self.processes: list[subprocess.Popen[bytes]] = []
        self.address = ""

    def security(self) -> Security | None:
        files = files_in(self.tls) if self.tls else None
        return Security(**files, require_encryption=True) if files else None

    def scheduler(self) -> None:
        """Start the scheduler, and wait until it listens."""
        file = self.root / "scheduler.json"
        protocol = ("--protocol", "tls") if self.tls else ()
        self._start("scheduler", *SHARED, *protocol, "--scheduler-file", file, role="scheduler")
        self.address = json.loads(until(lambda: file.is_file() and file.read_text(), "the scheduler listens"))["address"]

    def worker(self, preload: str = "", **variables: str) -> "subprocess.Popen[bytes]":
        """Start a worker in which `preload` is executed first, with those variables more; wait until it has joined."""
        found = []
        if preload:
            file = self.root / f"preload_{len(self.processes)}.py"
            file.write_text(preload)
            found = ["--preload", file]
        with Client(self.address, security=self.security(), set_as_default=False, timeout=SECONDS) as client:
            count = len(client.scheduler_info()["workers"])
            options = ("--nthreads", "2", "--no-nanny", "--memory-limit", "0")
            process = self._start("worker", self.address, *SHARED[:2], *options, "--no-dashboard", *found, **variables)
            until(lambda: process.poll() is not None or len(client.scheduler_info()["workers"]) > count, "it has joined")
        assert process.poll() is None
        return process

    @property
    def workers(self) -> "list[subprocess.Popen[bytes]]":
        """The workers that run."""
        return [process for process in self.processes[1:] if process.poll() is None]

    def without(self, *workers: "subprocess.Popen[bytes]") -> None:
        """Kill workers, and wait until the scheduler knows."""
        with Client(self.address, security=self.security(), set_as_default=False, timeout=SECONDS) as client:
            left = len(self.workers) - len(workers)
            for process in workers:
                process.kill()
                process.wait(SECONDS)
            until(lambda: len(client.scheduler_info()["workers"]) == left, "the scheduler knows")

    def _start(self, what: str, *words: object, role: str = "worker", **variables: str) -> "subprocess.Popen[bytes]":
        keys = files_in(self.tls, role) if self.tls else {}
        options = [
            word for key, path in keys.items() for word in (f"--{key.replace('_', '-').replace(f'-{role}', '')}", path)
        ]
        command = [sys.executable, "-m", "dask", what, *map(str, words), *options]
        environment = {**os.environ, **QUIET, **variables}
        with open(self.root / f"{what}-{len(self.processes)}.log", "wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, cwd=self.root, start_new_session=True
            )
        self.processes.append(process)
        return process


@contextmanager
def cluster(root: Path, *, tls: bool = False) -> Iterator[Cluster]:
    """A scheduler that has no worker yet, until the block ends."""
    root.mkdir()
    made = Cluster(root, certificates(root) if tls else None)
    try:
        made.scheduler()
        yield made
    finally:
        for process in reversed(made.processes):
            process.kill()
            process.wait(SECONDS)


def certificates(root: Path) -> Path:
    """A folder with an authority's certificate and one that it signed for loopback, made by openssl."""
    folder = root / "tls"
    folder.mkdir()
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    authority = ("-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    signed = ("-x509", "-days", "2", "-subj", "/CN=loopback", "-keyout", "own.key", "-out", "own.pem")
    by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", EXTENSIONS, "-addext", "basicConstraints=critical,CA:false")
    for words in (authority, (*signed, *by)):
        subprocess.run(["openssl", "req", *key, *words], cwd=folder, check=True, capture_output=True)
    return folder


def files_in(folder: Path, role: str = "client") -> dict[str, str]:
    """The files of that folder, by Dask's keys for a role."""
    keys = {"tls_ca_file": "ca.pem", f"tls_{role}_cert": "own.pem", f"tls_{role}_key": "own.key"}
    return {key: str(folder / name) for key, name in keys.items()}


@contextmanager
def recorded(address: str) -> Iterator[tuple[str, bytearray]]:
    """An address that leads to that one, and all that passed in both directions, until the block ends."""
    seen = bytearray()
    host, port = address.removeprefix("tcp://").split(":")
    opened = [socket.create_server(("127.0.0.1", 0))]

    def hand_on(source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                seen.extend(data)
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, server = opened[0].accept()[0], socket.create_connection((host, int(port)))
                opened.extend((client, server))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=hand_on, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"tcp://127.0.0.1:{opened[0].getsockname()[1]}", seen
    finally:
        for each in opened:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
