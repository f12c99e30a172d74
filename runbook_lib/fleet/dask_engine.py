"""Dask distributed as the engine: workers on this machine by default, or a team's cluster by its scheduler's address.

Dask only carries. One SIGKILL of a worker may begin a task again elsewhere, so nothing here is taken for what was done.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from math import ceil
from queue import Empty, SimpleQueue

from dask import config
from distributed import Client, Future, LocalCluster, Security, Worker, WorkerPlugin
from distributed.scheduler import KilledWorker

from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.fleet.child import Task, bring, identity
from runbook_lib.fleet.engines import Ended

SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # a task whose worker died comes back at once: the journal decides
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.daemon": False,  # workers start pg_dump, git and others
    "distributed.admin.tick.limit": "60s",
    "logging.distributed": "error",
}
CONNECT = 15  # seconds that the scheduler may take to answer
LOST = (KilledWorker, CancelledError, OSError)  # how Dask says that whoever had a task is gone


class _Deaf(WorkerPlugin):
    """Has a worker ignore Ctrl-C, which a terminal sends to every process: the client says what ends, and when."""

    def setup(self, worker: Worker) -> None:
        """Set the worker's process so."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class Dask:
    """Workers of a Dask cluster."""

    name = "dask"

    def __init__(self, client: Client, cluster: LocalCluster | None = None) -> None:
        self._client, self._cluster = client, cluster
        self._tasks: dict[Future[None], Task] = {}
        self._address = str(client.scheduler_info()["address"])
        self._done = SimpleQueue[Future[None]]()
        self._numbers = itertools.count()
        self.dashboard = str(client.dashboard_link) if client.status == "running" else ""

    @classmethod
    def local(cls, threads: int) -> Dask:
        """Workers on this machine, in processes of their own, with so many threads in all."""
        config.set(SETTINGS)
        workers = min(threads, os.cpu_count() or 1)
        cluster = LocalCluster(
            n_workers=workers, threads_per_worker=ceil(threads / workers), dashboard_address="127.0.0.1:0", host="127.0.0.1"
        )
        client = Client(cluster, set_as_default=False)
        client.register_plugin(_Deaf())
        return cls(client, cluster)

    @classmethod
    def cluster(cls, address: str, security: Mapping[str, str] | None = None) -> Dask:
        """The cluster behind a scheduler's address, by TLS where `security` names its files as Dask calls them.

        Raises:
            AdapterError: The scheduler does not answer, or has no worker.
            PreconditionError: A worker has another version of this library or of what it needs.
        """
        config.set(SETTINGS)
        try:
            client = Client(
                address,
                security=Security(**security, require_encryption=True) if security else None,
                timeout=CONNECT,
                set_as_default=False,
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise AdapterError(
                f"The scheduler does not answer: {error}",
                where=address,
                state="Nothing was begun.",
                safe_next="See that it runs and that its address and TLS files are right; then run the same command again.",
            ) from None
        try:
            _require_alike(client.run(identity), address)
        except BaseException:
            client.close()
            raise
        return cls(client)

    def submit(self, task: Task) -> None:
        """Have a task begun as soon as there is room.

        Raises:
            AdapterError: The scheduler is gone.
        """
        self._require_scheduler()
        number = f"{task.action}-{task.target}-{next(self._numbers)}"
        future = self._client.submit(bring, replace(task, library=identity()), key=number, pure=False, retries=0)
        self._tasks[future] = task
        future.add_done_callback(self._done.put)

    def ended(self, seconds: float) -> list[Ended]:
        """The tasks that have ended since they were asked for last; waits at most so long for the first.

        Raises:
            AdapterError: The scheduler is gone.
        """
        done = []
        with suppress(Empty):
            done.append(self._done.get(timeout=seconds))
            while True:
                done.append(self._done.get_nowait())
        self._require_scheduler()
        return [self._ended(each) for each in dict.fromkeys(done) if each in self._tasks]

    def _ended(self, future: Future[None]) -> Ended:
        task = self._tasks.pop(future)
        match future.status:
            case "finished":
                return Ended(task)
            case "error" if not isinstance(error := future.exception(), LOST):
                return Ended(task, f"{type(error).__name__}: {error}")
        return Ended(task, "the worker that had it is gone", lost=True)

    def close(self) -> None:
        """End the workers of this machine, or let go of the cluster."""
        self._client.close()
        if self._cluster:
            self._cluster.close()

    def _require_scheduler(self) -> None:
        if self._client.status == "running":
            return
        names = ", ".join(sorted({task.target for task in self._tasks.values()}))
        raise AdapterError(
            "The connection to the scheduler is lost.",
            where=self._address,
            state="Each target is as its own journal says. "
            + (f"Workers may still act on those under way: {names}." if names else "None was under way."),
            safe_next="See that the scheduler runs; then run the same command again: it looks at each target first.",
        )


def _require_alike(workers: Mapping[str, str], address: str) -> None:
    """See that there are workers, and that each has this process's versions.

    Raises:
        AdapterError: There is none.
        PreconditionError: One has others.
    """
    if not workers:
        raise AdapterError(
            "The scheduler has no worker.", where=address, state="Nothing was begun.", safe_next="Start one; then try again."
        )
    if others := {where: found for where, found in workers.items() if found != identity()}:
        raise PreconditionError(
            f"{len(others)} of {len(workers)} workers have other versions than this process ({identity()}): "
            + "; ".join(f"{where}: {found}" for where, found in others.items()),
            where=address,
            state="Nothing was begun.",
            safe_next="Install the same lock file on each, restart them, then run the same command again.",
        )
