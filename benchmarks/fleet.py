"""Measure a fleet: its duration against one target after another, what it adds per target, and the memory of its client.

fleet.py [--targets 200] [--schemas 40] [--rows 2000] [--at-once 1 2 4 8] [--quick]   exit status 1: a bar is missed
"""

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import yaml

from runbook_lib import fleet
from runbook_lib.config.fleet import load_fleet
from runbook_lib.fleet import members, walk
from runbook_lib.fleet.child import Task, bring
from runbook_lib.fleet.dask_engine import Dask
from runbook_lib.fleet.engines import Ended
from runbook_lib.journal import Journal
from runbook_lib.rehearsal.postgres import Server, binaries, embedded_server
from runbook_lib.rehearsal.tenants import SERVICE, Tenants, database_of, in_schemas, tenants
from runbook_lib.rehearsal.workspace import settled_in
from runbook_lib.run import lifecycle

FASTER = 0.75  # of one after another, at the best number at once
ADDED = 0.15  # empty notebooks per target
MEMORY = 2.0  # times that with a tenth of the targets
NOTEBOOK, START = "papermill, empty notebook", "start and end of a worker"
TRIES = 3  # on a loaded machine a lock budget may run out; what is done again counts too
ABOUT = {"operator": "benchmark", "reason": "a benchmark"}
PLAIN = "UPDATE {}.orders SET channel = NULL WHERE channel = 'web' AND id % 2 = 0"
Events = list[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Site:
    """Targets that have the feature, a directory for their runs, and each target's database and schema by its name."""

    made: Tenants
    outputs: Path
    keys: dict[str, Any]  # of the fleet file
    places: dict[str, tuple[str, str]]


@contextmanager
def fresh(server: Server, kind: str, count: int, rows: int) -> Iterator[Site]:
    """So many targets that have the feature: databases, or schemas of one database."""
    with (
        tempfile.TemporaryDirectory(prefix="fleet-") as root,
        tenants(server, Path(root), 1 if kind == "schemas" else count, rows) as made,
        settled_in({"PGSERVICEFILE": str(made.service_file)}),
    ):
        if kind == "schemas":
            names = [f"s{number:03}" for number in range(1, count + 1)]
            keys = in_schemas(made, names)
            places = {name: (database_of(made.names[0]), name) for name in names}
        else:
            keys, places = {}, {name: (database_of(name), "public") for name in made.names}
        yield Site(made, Path(root) / "outputs", keys, places)


def one_after_another(site: Site) -> Events:
    """Roll each target back by the same calls as a fleet's worker, without a fleet; return the events of the first run."""
    file = site.made.write(**site.keys)
    events: Events = []

    def write(name: str, text: str) -> None:
        (site.made.root / name).parent.mkdir(exist_ok=True)
        (site.made.root / name).write_text(text)

    for each in members.targets(load_fleet(file), file):
        target, plan = members.written(each, write)
        plan_file, outputs = site.made.root / (plan or "plan.yaml"), site.outputs / each.name
        run = lifecycle.open_new(plan_file, site.made.root / target, "full", outputs=outputs, **ABOUT)
        run.close_adapters()
        bring(Task(each.name, str(run.folder.path), "preview"))
        bring(Task(each.name, str(run.folder.path), "apply", run.refresh().previewed, "benchmark"))
        assert (run.refresh().outcome or {})["status"] == "verified", run.state.outcome
        events = events or [(event.kind, dict(event.data)) for event in run.journal.events()]
    return events


def shell_loop(site: Site) -> None:
    """Execute the plain SQL on each target by psql, as a shell script would."""
    psql = shlex.quote(str((site.made.server.tools or binaries()) / "psql"))
    lines = [
        f'{psql} -qX -v ON_ERROR_STOP=1 "service={SERVICE} dbname={database}" -c "{PLAIN.format(schema)}"'
        for database, schema in site.places.values()
    ]
    subprocess.run(["sh", "-e"], input="\n".join(lines), text=True, check=True)


def by_fleet(at_once: int) -> Callable[[Site], None]:
    """Roll all back as a fleet, that many at once: workers, runs, previews, approval and waves."""

    def rolled_back(site: Site) -> None:
        workers = Dask.local(at_once)
        try:
            run = fleet.open_new(site.made.write(**site.keys, at_once=at_once), outputs=site.outputs, **ABOUT)
            for _ in range(TRIES):
                walk.approve(run, walk.preview(run, workers), "benchmark")
                if (ended := walk.apply(run, workers)).status == "finished":
                    return
        finally:
            workers.close()
        raise RuntimeError(f"the fleet is {ended.status}: {ended.summary}")

    return rolled_back


def empty_notebook(root: Path) -> None:
    """Execute an empty notebook with plain papermill."""
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (root / "empty.ipynb").write_text(json.dumps({"cells": [], "metadata": python, "nbformat": 4, "nbformat_minor": 5}))
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "empty.ipynb", "executed.ipynb"]
    subprocess.run(command, cwd=root, capture_output=True, check=True)


def processor() -> float:
    """The processor time of this process and of those that it started and that have ended, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


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


def simulated(counts: Sequence[int], made: Tenants, events: Events) -> list[dict[str, float]]:
    """Simulate fleets of these sizes, each in a process of its own."""
    (made.root / "fleet.json").write_text(json.dumps(yaml.safe_load(made.write().read_text())))
    (made.root / "events.json").write_text(json.dumps(events))
    found = []
    for count in counts:
        command = [sys.executable, __file__, "--simulate", str(count), str(made.root), str(made.root / "events.json")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout))
    return found


def measure(server: Server, kind: str, count: int, rows: int, at_once: Sequence[int]) -> tuple[bool, Events]:
    """Measure one kind of target; print the figures, and return whether each keeps its bar, and the events of a run."""
    print(f"{count} {kind} of {rows} rows on one server", flush=True)
    seconds, used = dict[str, float](), dict[str, float]()
    events: Events = []
    work: dict[str, Callable[[Site], Events | None]] = {
        NOTEBOOK: lambda site: empty_notebook(site.made.root),
        START: lambda _: Dask.local(at_once[0]).close(),
        "psql in a shell loop": shell_loop,
        "one after another": one_after_another,
        **{f"fleet, {number} at once": by_fleet(number) for number in at_once},
    }
    for name, measured in work.items():
        with fresh(server, kind, 1 if name in (NOTEBOOK, START) else count, rows) as site:
            if name == NOTEBOOK:
                measured(site)  # the first time reads files from the disk
            began, begun = processor(), monotonic()
            events = measured(site) or events
            seconds[name], used[name] = monotonic() - begun, processor() - began
        print(f"  {name:28} {seconds[name]:8.1f} s, processor {used[name]:6.1f} s", flush=True)
    best = min(at_once, key=lambda number: seconds[f"fleet, {number} at once"])
    fastest, alone = seconds[f"fleet, {best} at once"], seconds["one after another"]
    added = used[f"fleet, {at_once[0]} at once"] - used[START] - used["one after another"]
    kept = [
        _kept(f"fleet, {best} at once, over one after another", fastest / alone, FASTER),
        _kept("processor time added per target, in empty notebooks", added / count / used[NOTEBOOK], ADDED),
    ]
    return all(kept), events


def measure_memory(server: Server, rows: int, sizes: tuple[int, int], events: Events) -> bool:
    """Measure the client's memory with simulated targets; return whether it keeps its bar."""
    with fresh(server, "databases", 1, rows) as site:
        small, large = simulated(sizes, site.made, events)
    for size, found in zip(sizes, (small, large), strict=True):
        print(
            f"  {size} simulated targets: client {found['memory']:.0f} MB, {found['growth']:.0f} MB of it since it began; "
            f"per target {found['opening'] * 1000:.0f} ms to open and {found['walking'] * 1000:.0f} ms to walk"
        )
    return _kept(f"client's memory, {sizes[1]} over {sizes[0]} targets", large["memory"] / small["memory"], MEMORY)


def _kept(what: str, measured: float, bar: float) -> bool:
    print(f"  {what}: {measured:.2f}, bar {bar:g}: {'kept' if measured <= bar else 'MISSED'}")
    return measured <= bar


def main() -> int:
    """Measure; return 1 if a figure misses its bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--schemas", type=int, default=40)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8], help="the first of them must be 1")
    parser.add_argument("--quick", action="store_true", help="20 targets, 10 schemas, at most 4 at once")
    parser.add_argument("--simulate", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.simulate:
        simulate(int(options.simulate[0]), *map(Path, options.simulate[1:]))
        return 0
    sizes, at_once, simulations = (options.targets, options.schemas), options.at_once, (100, 1_000)
    if options.quick:
        sizes, at_once, simulations = (20, 10), [1, 2, 4], (50, 200)
    with embedded_server() as server:
        found = [measure(server, *each, options.rows, at_once) for each in zip(("databases", "schemas"), sizes, strict=True)]
        kept = [kept for kept, _ in found]
        kept.append(measure_memory(server, options.rows, simulations, found[0][1]))
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
