"""The step that backs the database up before it is changed."""

from __future__ import annotations

import json
import math
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.plan.steps import About, DatabaseStep, Touches
from runbook_lib.config.target import FreshBackup, Snapshot
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.postgres.blockers import waiting_dump, watched
from runbook_lib.postgres.catalog import database_size
from runbook_lib.postgres.connection import unreadable
from runbook_lib.postgres.dump import sha256
from runbook_lib.postgres.restore.dump_inspector import newest
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step, commands_here
from runbook_lib.steps.by_hand import Instruction, in_shell, in_shell_at
from runbook_lib.system.processes import shown

NEWEST = 50  # runs that are looked at


@dataclass(frozen=True)
class Rate:
    """How fast the database was backed up last: bytes of the database a second, and the run that showed it."""

    bytes_per_second: float
    run: str


def last_rate(outputs: Path, target: str, step: str) -> Rate | None:
    """The rate of the last run below `outputs` that did the step on the target; None where no run shows it. Read-only."""
    for journal in sorted(outputs.glob("*/journal.jsonl"), reverse=True)[:NEWEST]:
        try:
            found = list(_rates(journal, target, step))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if found:
            return Rate(found[-1], journal.parent.name)
    return None


def _rates(journal: Path, target: str, step: str) -> Iterator[float]:
    with open(journal, encoding="utf-8") as file:
        for event in map(json.loads, file):
            if event["kind"] == "opened" and event["data"]["target"] != target:
                return
            if event["kind"] == "applied" and event["data"]["step"] == step:
                size, seconds = event["data"]["outcome"].get("database bytes"), event["data"]["seconds"]
                if size and seconds:
                    yield size / seconds


READ_TIMEOUT = 6 * 3600.0  # seconds that reading a backup through may take, with the services up
THERE, NOT_THERE = 0, 1  # exit codes of a snapshot's check; any other one means that it could not tell


class Ahead(ABC):
    """What takes the place of the dump that would be made while users wait."""

    def __init__(self, context: Context) -> None:
        self.context = context

    @property
    @abstractmethod
    def would(self) -> str:
        """What is done, before the first service is stopped."""

    @abstractmethod
    def look(self) -> Found:
        """Whether it can be done, as far as the preview can tell. Read-only."""

    @abstractmethod
    def probe(self, outcome: Mapping[str, Any]) -> Probe:
        """Whether it is done, by the step's recorded outcome and the live system. Read-only."""

    @abstractmethod
    def by_hand(self) -> list[Instruction]:
        """What a person does in its place. Pure."""

    @abstractmethod
    def make(self) -> Facts:
        """Do it; returns what it left. Changes the target's backups only."""


class BySnapshot(Ahead):
    """A snapshot that the target's own command makes."""

    def __init__(self, context: Context, spec: Snapshot) -> None:
        super().__init__(context)
        self.spec = spec
        self.name = f"before-rollback-{context.folder.short}"

    @property
    def would(self) -> str:
        """The command, filled in."""
        return f"make the snapshot {self.name}: {shown(self._filled(self.spec.make))}"

    def look(self) -> Found:
        """Whether the target's commands can be run from here. Read-only."""
        return commands_here([self.spec.make, self.spec.check])

    def probe(self, outcome: Mapping[str, Any]) -> Probe:
        """What the target's check says. Read-only.

        Raises:
            AdapterError: It cannot tell.
        """
        check = self._filled(self.spec.check)
        answer = self.context.adapters.processes.run(check, timeout=self.spec.timeout)
        if answer.exit_code not in (THERE, NOT_THERE):
            raise AdapterError(
                f"Whether the snapshot {self.name} exists is not known: {shown(check)} ended with {answer.exit_code}.",
                where=f"target {self.context.target.name}, key backups.snapshot",
                state="Nothing was changed by asking.",
                safe_next="Make the check end with 0 where the snapshot exists, and with 1 where it does not.",
            )
        if answer.exit_code == THERE:
            return Probe(Effect.DONE, f"the snapshot {self.name} exists, by the target's check")
        return Probe(Effect.NOT_DONE, f"there is no snapshot {self.name}")

    def by_hand(self) -> list[Instruction]:
        """The target's command and its check. Pure."""
        commands = self._filled(self.spec.make), self._filled(self.spec.check)
        return [in_shell_at(None, *commands, expect=f"the last line ends with exit code {THERE}: `echo $?`")]

    def make(self) -> Facts:
        """Run the target's command. Changes the target's backups only.

        Raises:
            AdapterError: It failed.
        """
        self.context.adapters.processes.run(self._filled(self.spec.make), timeout=self.spec.timeout).require()
        return {"snapshot": self.name}

    def _filled(self, command: list[str]) -> list[str]:
        return [word.replace("{name}", self.name) for word in command]


class ByFreshBackup(Ahead):
    """The newest backup of a pattern, where it is young enough."""

    def __init__(self, context: Context, spec: FreshBackup) -> None:
        super().__init__(context)
        self.spec = spec

    @property
    def would(self) -> str:
        """Which backup is relied on."""
        return f"read the newest {self.spec.pattern} through, which must be at most {self.spec.minutes} minutes old"

    def look(self) -> Found:
        """Whether there is one, of this database, and young enough. Read-only."""
        path = newest(Path(self.context.target.backups.directory), self.spec.pattern)
        if path is None:
            return Status.FAIL, f"there is no {self.spec.pattern} in {self.context.target.backups.directory}"
        contents = self.context.adapters.dump_tools.contents(path)
        minutes = (self.context.now() - contents.made).total_seconds() / 60
        facts, live = f"{path.name} is {minutes:.1f} minutes old", self.context.adapters.postgres.database
        if contents.database != live:
            return Status.FAIL, f"{path.name} is of the database {contents.database}, not {live}"
        if minutes > self.spec.minutes:
            return Status.FAIL, f"{facts}, more than {self.spec.minutes}; make a new one"
        return (Status.UNKNOWN, f"{facts}: of the future") if minutes < -1 else (Status.PASS, facts)

    def probe(self, outcome: Mapping[str, Any]) -> Probe:
        """Whether one was read through, and is what it was. Read-only."""
        if "sha256" not in outcome:
            return Probe(Effect.NOT_DONE, "no backup was read through yet")
        path = Path(outcome["file"])
        if not path.exists() or sha256(path) != outcome["sha256"]:
            return Probe(Effect.UNKNOWN, f"the backup {path} is not the one that was read through")
        return Probe(Effect.DONE, f"{path.name} was read through before the services were stopped")

    def by_hand(self) -> list[Instruction]:
        """How the backup is looked for. Pure."""
        tools, directory = self.context.adapters.dump_tools, Path(self.context.target.backups.directory)
        look = in_shell(f"ls -lt {shlex.quote(str(directory))}/{self.spec.pattern} | head -1", self.would)
        read = tools.command_to_read(directory / "FILE")
        return [look, in_shell_at(None, read, expect="with its name for FILE, exit code 0: every byte of it can be read")]

    def make(self) -> Facts:
        """See once more that it is fresh, and read all of it. Read-only.

        Raises:
            PreconditionError: It is not fresh.
            AdapterError: It cannot be read to its end.
        """
        status, summary = self.look()
        path = newest(Path(self.context.target.backups.directory), self.spec.pattern)
        if status is not Status.PASS or path is None:
            raise PreconditionError(
                f"There is no fresh backup: {summary}.",
                where=f"target {self.context.target.name}, key backups.fresh",
                state="No service was stopped.",
                safe_next="Make a new one; then repeat the command, or run the cell again.",
            )
        self.context.adapters.dump_tools.read_through(path, READ_TIMEOUT)
        return {"file": str(path), "bytes": path.stat().st_size, "sha256": sha256(path)}


def ahead(context: Context) -> Ahead | None:
    """What the target names, None where the run's own dump is made while the services are stopped. Read-only."""
    backups = context.target.backups
    if backups.snapshot:
        return BySnapshot(context, backups.snapshot)
    return ByFreshBackup(context, backups.fresh) if backups.fresh else None


TIMEOUT = 3600.0
LOOK = 0.5  # seconds between two looks at who is in the way of pg_dump
KEPT = "nothing to undo: the backup is kept"


def path_of_backup(context: Context) -> Path:
    """Where a run's own backup goes. Read-only."""
    return Path(context.target.backups.directory) / f"before_rollback_{context.folder.id}.dump"


class BackupKeys(DatabaseStep):
    """Back the database up."""

    kind: Literal["backup"]

    requires = ()
    about = About(
        title="Back up the database as it is now",
        estimate=60,
        does="Dumps the database, or makes or checks the target's own backup, and reads all of it.",
        expect="A readable backup, with its size and SHA-256.",
        if_not="Free disk space, or end the session that blocks pg_dump. Then apply the step again.",
        preserves="The backup stays in the run folder, or where the target keeps it.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=False,
        on_table="",
    )

    def touches(self) -> Touches:
        """Nothing: a backup is kept."""
        return Touches()

    def after(self, state: State, rules: Rules) -> State:
        """Nothing of them changes."""
        return state


class Backup(Step):
    """Dump the whole database, read the dump back, and keep its hash; or what the target names in its place."""

    Keys = BackupKeys

    @cached_property
    def ahead(self) -> Ahead | None:
        """What is done before the services are stopped, None where the dump waits for that."""
        return ahead(self.context)

    @property
    def goes_first(self) -> bool:
        """Whether it is done before the first service is stopped."""
        return self.ahead is not None

    @property
    def path(self) -> Path:
        """Where this run's backup goes."""
        return path_of_backup(self.context)

    def preview(self) -> Preview:
        """How large the database is, where the dump would go, and how long users wait for it. Read-only."""
        size = self._size()
        if self.ahead:
            would = [f"{self.ahead.would}; before the services are stopped, so users do not wait for it"]
            return Preview(self.name, self.title, would=would, undone_by=KEPT, estimate=0)
        rate = last_rate(self.context.folder.path.parent, self.context.target.name, self.name)
        seconds = math.ceil(size / rate.bytes_per_second) if rate else self.spec.estimate
        would = [
            f"dump the database ({size / 1e6:.0f} MB on disk) to {self.path} and read the dump back",
            f"users wait about {seconds} s for it, at {rate.bytes_per_second / 1e6:.1f} MB/s as in run {rate.run}"
            if rate
            else f"users wait for it; how long is not known: no earlier run here shows a rate (the plan says {seconds} s)",
        ]
        return Preview(
            self.name,
            self.title,
            would=would,
            locks="ACCESS SHARE on every table while it runs",
            undone_by=KEPT,
            estimate=seconds,
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """The dump, and a look into it; or what the target has in its place. Pure."""
        return self.ahead.by_hand() if self.ahead else self._dumped()

    def _dumped(self) -> list[Instruction]:
        tools = self.context.adapters.dump_tools
        return [
            in_shell_at(None, tools.command_to_dump(self.path), expect=f"exit code 0, and {self.path} is there"),
            in_shell_at(None, tools.command_to_read(self.path), expect="exit code 0: every byte of it can be read"),
        ]

    def needs(self) -> list[Precondition]:
        """That a dump may read all there is. Pure."""

        def readable() -> Found:
            with self.context.adapters.postgres.connect() as connection:
                found = unreadable(connection)
            if found:
                return Status.FAIL, f"our role may not read, or not every row of: {', '.join(found)}"
            return Status.PASS, "it may"

        if self.ahead:
            return [self.need("ahead", "The backup can be made before the stop", When.BEFOREHAND, self.ahead.look)]
        return [self.need("readable", "Our role may read every table and sequence", When.BEFOREHAND, readable)]

    def probe(self) -> Probe:
        """Whether this run's dump is there, whole and unchanged. Read-only."""
        if self.ahead:
            return self.ahead.probe(self.left)
        if not self.path.exists():
            return Probe(Effect.NOT_DONE, "no dump of this run is there")
        known = self.left.get("sha256")
        if known is None:
            return Probe(Effect.HALF_DONE, "a dump is there that was not read back yet")
        if known != sha256(self.path):
            return Probe(Effect.UNKNOWN, f"the dump {self.path} is not the one that was written")
        return Probe(Effect.DONE, "the dump is there, with the hash on record")

    def apply(self) -> Facts:
        """Dump, read back and hash; a dump that is there already is not made again. Changes the target's backups only."""
        if self.ahead:
            return self.ahead.make()
        size = self._size()
        if not self.path.exists():
            with watched(self.context.adapters.postgres.connect, waiting_dump, self.reporter.waiting, every=LOOK):
                self.context.adapters.dump_tools.dump(self.path, TIMEOUT)
        self.context.adapters.dump_tools.read_through(self.path, TIMEOUT)
        contents = self.context.adapters.dump_tools.contents(self.path)
        return {
            "file": str(self.path),
            "database bytes": size,
            "bytes": self.path.stat().st_size,
            "sha256": sha256(self.path),
            "tables": list(contents.tables_with_data),
        }

    def verify(self) -> list[Result]:
        """That the backup holds the data of the table to be changed, as far as it can be looked into. Read-only."""
        file = self.left.get("file", "" if self.ahead else str(self.path))
        if not file:
            return [self.result("readable", "The snapshot exists", Status.PASS, self.probe().detail)]
        tables = self.context.plan.tables
        contents = self.context.adapters.dump_tools.contents(Path(file))
        lacking = ", ".join(name for table in tables for name in contents.lacks(*table))
        held = f"{Path(file).name} holds {len(contents.tables_with_data)} tables with data"
        return [
            self.result(
                "readable",
                "The backup can be read and holds the table" if tables else "The backup can be read",
                Status.FAIL if lacking else Status.PASS,
                f"{held}, but not {lacking}" if lacking else held,
            )
        ]

    def undo(self) -> Facts:
        """Nothing: a backup is kept. Read-only."""
        return {"kept": str(self.path)}

    def _size(self) -> int:
        with self.context.adapters.postgres.connect() as connection:
            return database_size(connection)
