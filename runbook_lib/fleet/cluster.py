"""The workers of a team's Dask cluster: each is looked at before it is given anything to do."""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from distributed import Client, Security

from runbook_lib.config.fleet import Tls
from runbook_lib.errors import AdapterError, ParametersError, PreconditionError
from runbook_lib.fleet import FleetRun
from runbook_lib.fleet.child import Task, identity, unfit

CONNECT = 15  # seconds that the scheduler may take to answer


def connected(address: str, tls: Tls | None = None) -> Client:
    """Return a client of the scheduler at an address, by TLS where its files are given.

    Raises:
        ParametersError: The address is by TLS, and there are no files.
        AdapterError: The scheduler does not answer.
    """
    if address.startswith("tls://") and tls is None:
        raise ParametersError(
            "The address of the scheduler is by TLS, and no TLS files are named.",
            where=address,
            state="Nothing was begun.",
            safe_next="Add `--tls FILE`, a YAML file with tls_ca_file, tls_client_cert and tls_client_key.",
        )
    security = Security(**tls.model_dump(), require_encryption=True) if tls else None
    try:
        return Client(address, security=security, timeout=CONNECT, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
        raise AdapterError(
            f"The scheduler does not answer: {' '.join(str(error).split())}",
            where=address,
            state="Nothing was begun.",
            safe_next="See that it runs and that its address and TLS files are right; then run the same command again.",
        ) from None


def problem(task: Task) -> str:
    """Why this worker must not act, with the name of its host; "" where it may. Read-only."""
    why = unfit(task)
    return f"on {socket.gethostname()}: {why}" if why else ""


class Workers:
    """The workers of a cluster that walks a fleet, and why some of them must not act for it."""

    def __init__(self, client: Client, fleet: FleetRun) -> None:
        self._client, self._fleet = client, fleet
        self._looked: dict[str, str] = {}  # worker -> its host, and why it is not fit; "" where it is

    def require_fit(self) -> None:
        """Make sure that there are workers, and that each has the same versions and sees the fleet's folder and its lock.

        Raises:
            AdapterError: There is none.
            PreconditionError: One is not fit, or another process walks this fleet.
        """
        with self._fleet.folder.lock():
            self._look(self._client.scheduler_info(n_workers=-1)["workers"])
        if not self._looked:
            raise AdapterError(
                "The scheduler has no worker.",
                where=self._client.scheduler_info()["address"],
                state="Nothing was begun.",
                safe_next="Start one; then run the same command again.",
            )
        if self._unfit(self._looked):
            raise self._refused()

    def sent(self, task: Task) -> Task:
        """Return a task as a worker gets it: with the versions here and absolute paths, and never with a secret."""
        folder, fleet = Path(task.folder).absolute(), self._fleet.path.absolute()
        return replace(task, folder=str(folder), library=identity(), fleet=str(fleet))

    def allowed(self) -> list[str] | None:
        """Return the workers that may act, None where all may; call it while the fleet is locked.

        Raises:
            PreconditionError: There are workers, and none of them is fit.
        """
        present = self._present()
        others = self._unfit(present)
        if others and len(others) == len(present):
            raise self._refused()
        return [address for address in present if address not in others] if others else None

    def are_gone(self, workers: Collection[str]) -> bool:
        """Whether none of these workers is left."""
        return set(workers).isdisjoint(self._present())

    def _present(self) -> list[str]:
        """The workers that there are now; those that joined since have been looked at, and the unfit are journaled."""
        present = [*self._client.scheduler_info(n_workers=-1)["workers"]]
        if new := [address for address in present if address not in self._looked]:
            self._look(new)
            for address, why in self._unfit(new).items():
                self._fleet.journal.append("fleet-worker-refused", worker=address, why=why)
        return present

    def _look(self, workers: Collection[str]) -> None:
        """Have workers say whether they are fit, by the run of the first target."""
        first = next(iter(self._fleet.state.targets))
        sample = self.sent(Task(first, str(self._fleet.child(first)), "preview"))
        for address, found in self._client.run(problem, sample, workers=[*workers], on_error="return").items():
            self._looked[address] = f"cannot run this library: {found}" if isinstance(found, Exception) else found

    def _unfit(self, workers: Collection[str]) -> dict[str, str]:
        return {address: self._looked[address] for address in workers if self._looked.get(address)}

    def _refused(self) -> PreconditionError:
        found = self._unfit(self._looked)
        return PreconditionError(
            f"{len(found)} of {len(self._looked)} workers cannot act for this fleet: "
            + "; ".join(f"{address} {why}" for address, why in found.items()),
            where=self._client.scheduler_info()["address"],
            state="They were given nothing to do. Each target is as its own journal says.",
            safe_next="Install the same lock file on each, mount the fleet's folder there at the same path, restart them, "
            "then run the same command again.",
        )
