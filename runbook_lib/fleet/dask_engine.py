"""Dask distributed as the engine: workers on this machine by default, or a team's cluster by its scheduler's address.

Dask only carries. One SIGKILL of a worker may begin a task again elsewhere, so nothing here is taken for what was done.
"""

from __future__ import annotations

import logging
import os
import signal
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from uuid import uuid4

from dask import config
from distributed import Client, Future, LocalCluster, Worker, WorkerPlugin
from distributed.scheduler import KilledWorker

from runbook_lib.config.fleet import Tls
from runbook_lib.errors import AdapterError
from runbook_lib.fleet import FleetRun
from runbook_lib.fleet.child import Task, bring, identity
from runbook_lib.fleet.cluster import Workers, connected
from runbook_lib.fleet.engines import Ended, closed

SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # a task whose worker died comes back at once: the journal decides
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.daemon": False,  # workers start pg_dump, git and others
    "distributed.worker.profile.enabled": False,  # it would look at every thread's stack a hundred times a second
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.limit": "60s",
    "logging.distributed": "critical",
}
LOGGERS = ("distributed", "distributed.client", "tornado.application")  # of this process: errors of ours say what matters
ANSWER = 30  # seconds that a scheduler may take to answer while targets are under way
NO_WORKER = 60  # seconds for a worker to start again, as a nanny or Kubernetes has it
GONE = "The connection to the scheduler is lost."
LOST = (KilledWorker, CancelledError, OSError)  # how Dask says that whoever had a task is gone


def _page(client: Client) -> str:
    """The address of the scheduler's dashboard, or of its list of workers: without bokeh there is no dashboard."""
    link = str(client.dashboard_link)
    return link if find_spec("bokeh") else f"{link.removesuffix('status')}info/main/workers.html"


def _heed_nothing(number: int, frame: object) -> None:
    """Do nothing about a signal."""


class _Deaf(WorkerPlugin):
    """Has a worker ignore Ctrl-C, which a terminal sends to every process: the client says what ends, and when."""

    def setup(self, worker: Worker) -> None:
        """Set the worker's process so."""
        signal.signal(signal.SIGINT, _heed_nothing)  # not SIG_IGN, which every program it starts would inherit


def _set_up() -> None:
    """Have Dask carry tasks as the fleet needs it, and log only what the fleet does not say itself."""
    config.set(SETTINGS)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Dask:
    """Workers of a Dask cluster."""

    name = "dask"

    def __init__(self, client: Client, cluster: LocalCluster | None = None, workers: Workers | None = None) -> None:
        """`workers`: those of a team's cluster, which have to be looked at before they act."""
        self._client, self._cluster, self._workers = client, cluster, workers
        self._restricted: dict[Future[None], list[str]] = {}  # to these workers, since others are not fit
        self._tasks: dict[Future[None], Task] = {}
        self._address = str(client.scheduler_info()["address"])
        self._done = SimpleQueue[Future[None]]()
        self._closed = False
        self._without_since: float | None = None  # that the scheduler has no worker
        self.dashboard = _page(client) if client.status == "running" else ""

    @classmethod
    def local(cls, threads: int) -> Dask:
        """Workers on this machine, in processes of their own, with so many threads in all."""
        _set_up()
        workers = min(threads, os.cpu_count() or 1)
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=ceil(threads / workers),
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            silence_logs=logging.CRITICAL,
        )
        client = Client(cluster, set_as_default=False)
        client.register_plugin(_Deaf())
        return cls(client, cluster)

    @classmethod
    def cluster(cls, address: str, folder: Path, tls: Tls | None = None) -> Dask:
        """The cluster behind a scheduler's address, to walk the fleet in that folder; by TLS where its files are given.

        Raises:
            AdapterError: The scheduler does not answer, or has no worker.
            PreconditionError: A worker has other versions, or does not see the folder and its lock.
        """
        _set_up()
        client = connected(address, tls)
        try:
            workers = Workers(client, FleetRun(folder))
            workers.require_fit()
        except BaseException:
            client.close()
            raise
        return cls(client, workers=workers)

    def submit(self, task: Task) -> None:
        """Have a task begun as soon as there is room.

        Raises:
            AdapterError: The scheduler is gone, or the engine was closed.
            PreconditionError: Its only workers joined later, and none of them is fit to act.
        """
        if self._closed:
            raise closed(task)
        self._require_scheduler()
        sent, allowed = replace(task, library=identity()), None
        if self._workers:
            sent, allowed = self._workers.sent(task), self._workers.allowed()
        number = f"{task.action}-{task.target}-{uuid4().hex}"  # the scheduler knows other clients' numbers, and earlier ones
        future = self._client.submit(bring, sent, key=number, pure=False, retries=0, workers=allowed)
        self._tasks[future] = task
        if allowed:
            self._restricted[future] = allowed
        future.add_done_callback(self._done.put)

    def ended(self, seconds: float) -> list[Ended]:
        """The tasks that have ended since they were asked for last; waits at most so long for the first.

        Raises:
            AdapterError: The scheduler is gone or does not answer, or has had no worker for `NO_WORKER` seconds.
        """
        done = []
        with suppress(Empty):
            done.append(self._done.get(timeout=seconds))
            while True:
                done.append(self._done.get_nowait())
        self._require_scheduler()
        if not done and self._tasks:
            self._require_a_worker()
            done = self._without_worker()
        return [self._ended(each) for each in dict.fromkeys(done) if each in self._tasks]

    def _ended(self, future: Future[None]) -> Ended:
        task = self._tasks.pop(future)
        self._restricted.pop(future, None)
        match future.status:
            case "finished":
                return Ended(task)
            case "error" if not isinstance(error := future.exception(), LOST):
                return Ended(task, f"{type(error).__name__}: {error}")
        return Ended(task, "the worker that had it is gone", lost=True)

    def _without_worker(self) -> list[Future[None]]:
        """The tasks whose every allowed worker is gone, taken back from the scheduler."""
        workers = self._workers
        found = [each for each, allowed in self._restricted.items() if workers and workers.are_gone(allowed)]
        for future in found:
            future.cancel()
        return found

    def close(self) -> None:
        """End the workers of this machine, or let go of the cluster."""
        self._closed = True
        self._client.close()
        if self._cluster:
            self._cluster.close()

    def _require_scheduler(self) -> None:
        if self._client.status == "running":
            return
        raise self._lost(GONE)

    def _lost(self, what: str) -> AdapterError:
        names = ", ".join(sorted({task.target for task in self._tasks.values()}))
        return AdapterError(
            what,
            where=self._address,
            state="Each target is as its own journal says. "
            + (f"Workers may still act on those under way: {names}." if names else "None was under way."),
            safe_next="See that the scheduler runs; then run the same command again: it looks at each target first.",
        )

    def _require_a_worker(self) -> None:
        scheduler = self._client.scheduler
        assert scheduler is not None  # while the client runs
        try:
            found = self._client.sync(scheduler.identity, n_workers=0, callback_timeout=ANSWER)
        except TimeoutError:
            raise self._lost(f"The scheduler has not answered for {ANSWER} s.") from None
        except OSError:
            raise self._lost(GONE) from None
        if found["n_workers"]:
            self._without_since = None
            return
        self._without_since = self._without_since or monotonic()
        if monotonic() - self._without_since < NO_WORKER:
            return
        raise AdapterError(
            f"The scheduler has had no worker for {NO_WORKER} s.",
            where=self._address,
            state="Each target is as its own journal says. Nobody acts on any for this command.",
            safe_next="Start a worker; then run the same command again: it looks at each target first.",
        )
