"""A fleet that faults happen to: approved once, as it was then before each test, and what must hold after every fault."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from runbook_lib import fleet
from runbook_lib.fleet import FleetRun, walk
from runbook_lib.fleet.engines import Pool
from runbook_lib.journal import Journal
from runbook_lib.journal.event import Event
from runbook_lib.journal.folder import RunFolder
from runbook_lib.rehearsal.tenants import Tenants, database_of

from .bare import Ended, runbook
from .commands import words
from .waiting import lives, until

RUNBOOK = Path(sys.executable).with_name("runbook")
SECONDS = 60
ENDS = ("applied", "undone", "failed")
CATALOG = """
SELECT (SELECT string_agg(ROW(n.nspname, c.relname, c.relkind, a.attname, a.atttypid, a.attisdropped)::text, E'\\n'
        ORDER BY n.nspname, c.relname, a.attnum) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'),
    (SELECT string_agg(tgname || tgenabled::text, ',' ORDER BY tgname) FROM pg_trigger WHERE NOT tgisinternal),
    (SELECT string_agg(proname, ',' ORDER BY proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema')
"""


@dataclass
class Fleet:
    """A fleet whose previews are approved, and its tenants."""

    shops: Tenants
    path: Path
    kept: Path  # a copy of the folder, as it was before any fault
    locks: dict[str, psycopg.Connection] = field(default_factory=dict)  # tenant -> a session that holds a lock there

    @classmethod
    def approved(cls, shops: Tenants, root: Path, **changed: Any) -> "Fleet":
        """Open a fleet with some keys of its file changed, preview it and approve that."""
        run, pool = (
            fleet.open_new(shops.write(**changed), operator="a test", reason="a test", outputs=root / "outputs"),
            Pool(4),
        )
        walk.approve(run, walk.preview(run, pool), "a test")
        pool.close()
        kept = root / f"kept-{run.path.name}"
        shutil.copytree(run.path, kept)
        return cls(shops, run.path, kept)

    def reset(self) -> None:
        """Have the folder and every tenant as they were when the fleet was approved. Changes the server."""
        shutil.rmtree(self.path)
        shutil.copytree(self.kept, self.path)
        for name in self.shops.names:
            self.shops.database(name).drop()
            self.shops.template.clone(database_of(name))

    @property
    def run(self) -> FleetRun:
        """The fleet, opened in this process."""
        return fleet.open_existing(self.path)

    def words(self) -> dict[str, str]:
        return {name: each.word for name, each in self.run.standings().items()}

    def events(self, name: str) -> list[Event]:
        """The journal of a target's run."""
        return Journal(self.run.child(name) / "journal.jsonl").events()

    def kinds(self, name: str) -> list[str]:
        return [event.kind for event in self.events(name)]

    def noted(self, kind: str) -> bool:
        """Whether the fleet's own journal has an event of that kind."""
        return kind in [event.kind for event in self.run.journal.events()]

    def lost(self) -> list[str]:
        """The targets whose workers the walker has called lost."""
        return [event.data["target"] for event in self.run.journal.events() if event.kind == "fleet-lost"]

    def held_by(self, name: str) -> int:
        """The process that acts on a target, 0 for none."""
        return int(RunFolder(self.run.child(name).parent).held_by().removeprefix("pid ") or 0)

    def command(self, name: str, *more: object) -> Ended:
        """A command of the fleet in this process, with threads as its engine unless another is named."""
        threads = ["--engine", "threads"] if name in ("plan", "run", "undo") and "--scheduler" not in more else []
        return runbook("fleet", name, self.path, *threads, *more)

    @contextmanager
    def client(self, *more: object, name: str = "run") -> Iterator[subprocess.Popen[str]]:
        """`runbook fleet run`, or another command, as a process of its own, ended with the block at the latest."""
        command = [str(each) for each in (RUNBOOK, "fleet", name, self.path, *more)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        with subprocess.Popen(command, text=True, **streams) as process:  # type: ignore[call-overload]
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def locked(self, name: str, statement: LiteralString = "LOCK orders IN ACCESS SHARE MODE") -> Iterator[int]:
        """Another session holds a lock in a tenant's database, so that a step waits where it needs it; yields its pid.

        With the lock of a reader a step begins and waits for its exchange; with ACCESS EXCLUSIVE it does not begin.
        """
        database = self.shops.database(name)
        with psycopg.connect(database.conninfo()) as session:
            session.execute(statement)
            self.locks[name] = session
            yield session.info.backend_pid
            self.release(name)

    def release(self, name: str) -> None:
        """Have the session that holds a lock of a tenant give it up, unless it did."""
        if session := self.locks.pop(name, None):
            session.rollback()

    def waits(self, name: str) -> bool:
        """Whether a step of a target was begun and waits for a lock."""
        kinds = self.kinds(name)
        return bool(self.run.standing(name).waits_since) and "started" in kinds

    def until_waiting(self, name: str) -> int:
        """Wait until a step that was begun, or its undo, waits for a lock; the process that acts there."""
        until(lambda: self.waits(name), f"a step waits on {name}", SECONDS)
        return self.held_by(name)

    def until_idle(self) -> None:
        """Wait until nobody acts on any target."""
        until(lambda: not any(self.held_by(name) for name in self.shops.names), "nobody acts on a target", SECONDS)


def fingerprint(shops: Tenants, name: str) -> tuple[Any, ...]:
    """A tenant's rows and its catalog."""
    database = shops.database(name)
    with psycopg.connect(database.conninfo()) as connection:
        return shops.contents(name)[0], *(connection.execute(CATALOG).fetchone() or ())


def epoch(shops: Tenants, name: str) -> int:
    """How often the lease of a tenant was taken."""
    with psycopg.connect(shops.database(name).conninfo()) as connection:
        if connection.execute("SELECT to_regclass('runbook.lease')").fetchone() == (None,):
            return 0
        found = connection.execute("SELECT max(epoch) FROM runbook.lease").fetchone()
    return int((found or (0,))[0] or 0)


def acted_on_by_two(events: Sequence[Event]) -> list[str]:
    """Where a journal shows two processes at once: an end without a begin of its own. Pure."""
    found, open_, verified = list[str](), "", ""
    for event in events:
        step = event.data.get("step", "")
        if event.kind == "started":
            open_ = step
        elif event.kind in ENDS:
            if step != open_ and not (event.kind == "failed" and step == verified):  # a verification may fail after an end
                found.append(f"{event.seq}: {event.kind} {step}, and nobody had begun it")
            open_ = ""
        verified = event.data["round"].removeprefix("step:") if event.kind == "checked" else ""
    return found


def begun_without_a_look(events: Sequence[Event]) -> list[str]:
    """Where a step was begun that nobody had looked at since it was begun before; an undo journals no look. Pure."""
    found, begun, looked = list[str](), set[str](), set[str]()
    for event in events:
        step = event.data.get("step", "")
        if event.kind == "checked" and event.data["round"].startswith("before:"):
            looked.add(event.data["round"].removeprefix("before:"))
        elif event.kind == "started" and event.data["action"] == "apply":
            if step in begun and step not in looked:
                found.append(f"{event.seq}: {step} was begun again without a look at it")
            begun.add(step)
            looked.discard(step)
    return found


def faults_of(tried: Fleet, untouched: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """What a fleet shows that no fault may lead to; `untouched`: targets that were not reached, as they were before."""
    found = list[str]()
    for name in tried.shops.names:
        events = tried.events(name)
        found += [f"{name}: {each}" for each in (*acted_on_by_two(events), *begun_without_a_look(events))]
        begins = [event.kind for event in events].count("started")
        if begins > (taken := epoch(tried.shops, name)):
            found.append(f"{name}: {begins} begins under {taken} leases")
    return found + [f"{name} was touched" for name, was in untouched.items() if fingerprint(tried.shops, name) != was]


def ended(process: subprocess.Popen[str], seconds: float = SECONDS) -> tuple[int, str]:
    """The exit code of a process and what it printed, its broken lines joined, once it has ended."""
    printed, _ = process.communicate(timeout=seconds)
    return process.returncode, words(printed)


def killed(pid: int) -> None:
    """Kill a process that a test started, and wait until it is gone."""
    os.kill(pid, 9)
    until(lambda: not lives(pid), f"{pid} is gone")
