"""Measure a fleet: its duration against one target after another, what it adds per target, and the memory of its client.

fleet.py [--targets 200] [--rows 2000] [--at-once 1 2 4 8] [--quick]     exit status 1 if a figure misses its bar
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import yaml

from runbook_lib import fleet
from runbook_lib.fleet import walk
from runbook_lib.fleet.child import Task
from runbook_lib.fleet.dask_engine import Dask
from runbook_lib.fleet.engines import Ended
from runbook_lib.headless.dry_run import dry_run
from runbook_lib.journal import Journal
from runbook_lib.rehearsal.postgres import Server, binaries, embedded_server
from runbook_lib.rehearsal.tenants import SERVICE, Tenants, database_of, tenants
from runbook_lib.rehearsal.workspace import settled_in
from runbook_lib.run import engine, lifecycle

FASTER = 0.75  # of one after another, at the best number at once
ADDED = 0.15  # empty notebooks per target
MEMORY = 2.0  # times that with a tenth of the targets
TRIES = 3  # on a loaded machine a lock budget may run out; what is done again counts too
ABOUT = {"operator": "benchmark", "reason": "a benchmark"}
PLAIN = "UPDATE orders SET channel = NULL WHERE channel = 'web' AND id % 2 = 0"
Events = list[tuple[str, dict[str, Any]]]


@contextmanager
def fresh(server: Server, count: int, rows: int) -> Iterator[tuple[Tenants, Path]]:
    """Tenants that have the feature, and a directory for their runs."""
    with (
        tempfile.TemporaryDirectory(prefix="fleet-") as root,
        tenants(server, Path(root), count, rows) as made,
        settled_in({"PGSERVICEFILE": str(made.service_file)}),
    ):
        yield made, Path(root) / "outputs"


def one_after_another(made: Tenants, outputs: Path) -> Events:
    """Roll each target back by the runbook's own engine, without a fleet; return the events of the first run."""
    files = made.root / "targets"
    files.mkdir()
    events: Events = []
    for name in made.names:
        target = files / f"{name}.yaml"
        target.write_text((made.root / "template.yaml").read_text().replace("{target.name}", name))
        run = lifecycle.open_new(made.root / "plan.yaml", target, "full", outputs=outputs, **ABOUT)
        run.approve(dry_run(run).digest, "benchmark")
        for step in run.steps:
            engine.apply(run, step)
        lifecycle.verify(run)
        assert lifecycle.close(run).status == "verified"
        lifecycle.write_archive(run)
        run.close_adapters()
        events = events or [(event.kind, dict(event.data)) for event in run.journal.events()]
    return events


def shell_loop(made: Tenants, _: Path) -> None:
    """Execute the plain SQL on each target by psql, as a shell script would."""
    psql = shlex.quote(str((made.server.tools or binaries()) / "psql"))
    names = " ".join(database_of(name) for name in made.names)
    loop = f'for each in {names}; do {psql} -qX -v ON_ERROR_STOP=1 "service={SERVICE} dbname=$each" -c "$PLAIN"; done'
    subprocess.run(["sh", "-e", "-c", loop], env={**os.environ, "PLAIN": PLAIN}, check=True)


def by_fleet(at_once: int) -> Callable[[Tenants, Path], None]:
    """Roll all back as a fleet, that many at once: workers, runs, previews, approval and waves."""

    def rolled_back(made: Tenants, outputs: Path) -> None:
        workers = Dask.local(at_once)
        try:
            run = fleet.open_new(made.write(at_once=at_once), outputs=outputs, **ABOUT)
            for _ in range(TRIES):
                walk.approve(run, walk.preview(run, workers), "benchmark")
                if (ended := walk.apply(run, workers)).status == "finished":
                    return
        finally:
            workers.close()
        raise RuntimeError(f"the fleet is {ended.status}: {ended.summary}")

    return rolled_back


def empty_notebook(made: Tenants, _: Path) -> None:
    """Execute an empty notebook with plain papermill."""
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (made.root / "empty.ipynb").write_text(json.dumps({"cells": [], "metadata": python, "nbformat": 4, "nbformat_minor": 5}))
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "empty.ipynb", "executed.ipynb"]
    subprocess.run(command, cwd=made.root, capture_output=True, check=True)


class Journaling:
    """An engine whose tasks only write to the target's journal what a real rollback wrote there."""

    name = "journaling"

    def __init__(self, events: Events) -> None:
        previewed = 1 + max(number for number, (kind, _) in enumerate(events) if kind == "previewed")
        self._events = {"preview": events[1:previewed], "apply": events[previewed:]}
        self._tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        """Write the events."""
        Journal(Path(task.folder) / "journal.jsonl").append_all(self._events[task.action])
        self._tasks.append(task)

    def ended(self, _: float) -> list[Ended]:
        """Return what was submitted since the last call."""
        ended, self._tasks = [Ended(task) for task in self._tasks], []
        return ended

    def close(self) -> None:
        """Nothing is left open."""


def simulate(count: int, root: Path, events: Path) -> None:
    """Walk a fleet of so many targets that have no database; print this process's memory in MB and seconds per target."""
    names = [f"t{number:04}" for number in range(count)]
    file = root / f"fleet-{count}.yaml"
    file.write_text(json.dumps(json.loads((root / "fleet.json").read_text()) | {"targets": {"list": names}}))
    before, begun = _memory(), monotonic()
    run = fleet.open_new(file, outputs=root / "outputs", **ABOUT)
    opened = monotonic()
    journaling = Journaling(json.loads(events.read_text()))
    walk.approve(run, walk.preview(run, journaling), "benchmark")
    assert walk.apply(run, journaling).status == "finished"
    walked = monotonic()
    memory = {"memory": _memory(), "growth": _memory() - before}
    print(json.dumps(memory | {"opening": (opened - begun) / count, "walking": (walked - opened) / count}))


def _memory() -> float:
    """The most memory that this process has had, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def simulated(counts: Sequence[int], made: Tenants, events: Events) -> dict[int, dict[str, float]]:
    """Simulate fleets of these sizes, each in a process of its own."""
    (made.root / "fleet.json").write_text(json.dumps(yaml.safe_load(made.write().read_text())))
    (made.root / "events.json").write_text(json.dumps(events))
    found = {}
    for count in counts:
        command = [sys.executable, __file__, "--simulate", str(count), str(made.root), str(made.root / "events.json")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[count] = json.loads(done.stdout)
    return found


def measure(count: int, rows: int, at_once: Sequence[int], sizes: Sequence[int]) -> bool:
    """Measure all; print the figures, and return whether each keeps its bar."""
    seconds = dict[str, float]()
    events: Events = []
    work: dict[str, Callable[[Tenants, Path], Events | None]] = {
        "papermill, empty notebook": empty_notebook,
        "psql in a shell loop": shell_loop,
        "one after another": one_after_another,
        **{f"fleet, {number} at once": by_fleet(number) for number in at_once},
    }
    with embedded_server() as server:
        for name, measured in work.items():
            with fresh(server, count if "papermill" not in name else 1, rows) as (made, outputs):
                begun = monotonic()
                events = measured(made, outputs) or events
                seconds[name] = monotonic() - begun
            print(f"  {name:28} {seconds[name]:8.1f} s", flush=True)
        with fresh(server, 1, rows) as (made, _):
            memory = simulated(sizes, made, events)
    alone, notebook = seconds["one after another"], seconds["papermill, empty notebook"]
    best = min(at_once, key=lambda number: seconds[f"fleet, {number} at once"])
    fastest, single = seconds[f"fleet, {best} at once"], seconds[f"fleet, {at_once[0]} at once"]
    small, large = memory[sizes[0]], memory[sizes[1]]
    for size, found in memory.items():
        print(
            f"  {size} simulated targets: client {found['memory']:.0f} MB, {found['growth']:.0f} MB of it since it began; "
            f"per target {found['opening'] * 1000:.0f} ms to open and {found['walking'] * 1000:.0f} ms to walk"
        )
    print(f"  per target: {alone / count:.2f} s one after another, {seconds['psql in a shell loop'] / count:.3f} s by psql")
    return all(
        [
            _kept(f"fleet, {best} at once, over one after another", fastest / alone, FASTER),
            _kept("added per target, in empty notebooks", (single - alone) / count / notebook, ADDED),
            _kept(f"client's memory, {sizes[1]} over {sizes[0]} targets", large["memory"] / small["memory"], MEMORY),
        ]
    )


def _kept(what: str, measured: float, bar: float) -> bool:
    print(f"  {what}: {measured:.2f}, bar {bar:g}: {'kept' if measured <= bar else 'MISSED'}")
    return measured <= bar


def main() -> int:
    """Measure; return 1 if a figure misses its bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8], help="the first of them must be 1")
    parser.add_argument("--quick", action="store_true", help="20 targets, at most 4 at once")
    parser.add_argument("--simulate", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.simulate:
        simulate(int(options.simulate[0]), *map(Path, options.simulate[1:]))
        return 0
    count, at_once = (20, [1, 2, 4]) if options.quick else (options.targets, options.at_once)
    print(f"{count} targets of {options.rows} rows on one server")
    return 0 if measure(count, options.rows, at_once, (100, 1_000)) else 1


if __name__ == "__main__":
    sys.exit(main())
