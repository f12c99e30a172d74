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

NEWEST = 50  # runs to read


@dataclass(frozen=True)
class Rate:
    """The speed of the last backup: bytes of the database per second, and the run that measured it."""

    bytes_per_second: float
    run: str


def last_rate(outputs: Path, target: str, step: str) -> Rate | None:
    """Return the rate of the last run in `outputs` that did the step on the target; None if no run shows it. Read-only."""
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


READ_TIMEOUT = 6 * 3600.0  # seconds allowed for reading a whole backup, with the services up
THERE, NOT_THERE = 0, 1  # exit codes of a snapshot's check; any other one means UNKNOWN


class Ahead(ABC):
    """A backup made ahead of the outage, in place of a dump during it."""

    def __init__(self, context: Context) -> None:
        self.context = context

    @property
    @abstractmethod
    def would(self) -> str:
        """The preview's line on it."""

    @abstractmethod
    def look(self) -> Found:
        """Check that it can be done, as far as the preview can see. Read-only."""

    @abstractmethod
    def probe(self, outcome: Mapping[str, Any]) -> Probe:
        """Report whether it is done, from the step's recorded outcome and the live system. Read-only."""

    @abstractmethod
    def by_hand(self) -> list[Instruction]:
        """Return the steps by hand. Pure."""

    @abstractmethod
    def make(self) -> Facts:
        """Make it; returns what it left. Changes the target's backups only."""


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
        """Check that the target's commands can be run from here. Read-only."""
        return commands_here([self.spec.make, self.spec.check])

    def probe(self, outcome: Mapping[str, Any]) -> Probe:
        """Run the target's check. Read-only.

        Raises:
            AdapterError: The check's exit code is neither 0 nor 1.
        """
        check = self._filled(self.spec.check)
        answer = self.context.adapters.processes.run(check, timeout=self.spec.timeout)
        if answer.exit_code not in (THERE, NOT_THERE):
            raise AdapterError(
                f"Whether the snapshot {self.name} exists is unknown: {shown(check)} ended with {answer.exit_code}.",
                where=f"target {self.context.target.name}, key backups.snapshot",
                state="Nothing was changed by asking.",
                safe_next="Make the check end with 0 where the snapshot exists, and with 1 where it does not.",
            )
        if answer.exit_code == THERE:
            return Probe(Effect.DONE, f"the snapshot {self.name} exists, according to the target's check")
        return Probe(Effect.NOT_DONE, f"there is no snapshot {self.name}")

    def by_hand(self) -> list[Instruction]:
        """Return the target's command and its check. Pure."""
        commands = self._filled(self.spec.make), self._filled(self.spec.check)
        return [in_shell_at(None, *commands, expect=f"the last line ends with exit code {THERE}: `echo $?`")]

    def make(self) -> Facts:
        """Run the target's command. Changes the target's backups only.

        Raises:
            AdapterError: The command failed.
        """
        self.context.adapters.processes.run(self._filled(self.spec.make), timeout=self.spec.timeout).require()
        return {"snapshot": self.name}

    def _filled(self, command: list[str]) -> list[str]:
        return [word.replace("{name}", self.name) for word in command]


class ByFreshBackup(Ahead):
    """The newest backup that matches a pattern, if it is recent enough."""

    def __init__(self, context: Context, spec: FreshBackup) -> None:
        super().__init__(context)
        self.spec = spec

    @property
    def would(self) -> str:
        """The backup that is used."""
        return f"read the whole newest {self.spec.pattern}, which must be at most {self.spec.minutes} minutes old"

    def look(self) -> Found:
        """Check that one exists, is of this database, and is recent enough. Read-only."""
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
        return (Status.UNKNOWN, f"{facts}: its time is in the future") if minutes < -1 else (Status.PASS, facts)

    def probe(self, outcome: Mapping[str, Any]) -> Probe:
        """Report whether one was read completely, and is unchanged. Read-only."""
        if "sha256" not in outcome:
            return Probe(Effect.NOT_DONE, "no backup was read completely yet")
        path = Path(outcome["file"])
        if not path.exists() or sha256(path) != outcome["sha256"]:
            return Probe(Effect.UNKNOWN, f"the backup {path} changed after it was read")
        return Probe(Effect.DONE, f"{path.name} was read completely before the services were stopped")

    def by_hand(self) -> list[Instruction]:
        """Return the commands that find and read the backup. Pure."""
        tools, directory = self.context.adapters.dump_tools, Path(self.context.target.backups.directory)
        look = in_shell(f"ls -lt {shlex.quote(str(directory))}/{self.spec.pattern} | head -1", self.would)
        read = tools.command_to_read(directory / "FILE")
        return [look, in_shell_at(None, read, expect="with its name for FILE, exit code 0: every byte of it can be read")]

    def make(self) -> Facts:
        """Check again that it is fresh, and read all of it. Read-only.

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
    """Return the target's own backup, None if the run makes a dump while the services are stopped. Read-only."""
    backups = context.target.backups
    if backups.snapshot:
        return BySnapshot(context, backups.snapshot)
    return ByFreshBackup(context, backups.fresh) if backups.fresh else None


TIMEOUT = 3600.0
LOOK = 0.5  # seconds between two looks for sessions that block pg_dump
KEPT = "nothing to undo: the backup is kept"


def path_of_backup(context: Context) -> Path:
    """Return the path of a run's own backup. Read-only."""
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
        """Return the state unchanged."""
        return state


class Backup(Step):
    """Dump the whole database, read the dump back, and keep its hash; or use the target's own backup."""

    Keys = BackupKeys

    @cached_property
    def ahead(self) -> Ahead | None:
        """The backup made before the services are stopped, None if the dump waits for that."""
        return ahead(self.context)

    @property
    def goes_first(self) -> bool:
        """Whether it runs before the first service is stopped."""
        return self.ahead is not None

    @property
    def path(self) -> Path:
        """The path of this run's backup."""
        return path_of_backup(self.context)

    def preview(self) -> Preview:
        """Report the database's size, the dump's path, and how long users wait for it. Read-only."""
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
            else f"users wait for it; the time is unknown: no earlier run here shows a rate (the plan says {seconds} s)",
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
        """Return the dump command and a look into the dump; or the target's own commands. Pure."""
        return self.ahead.by_hand() if self.ahead else self._dumped()

    def _dumped(self) -> list[Instruction]:
        tools = self.context.adapters.dump_tools
        return [
            in_shell_at(None, tools.command_to_dump(self.path), expect=f"exit code 0, and {self.path} exists"),
            in_shell_at(None, tools.command_to_read(self.path), expect="exit code 0: every byte of it can be read"),
        ]

    def needs(self) -> list[Precondition]:
        """Our role can read everything that a dump reads. Pure."""

        def readable() -> Found:
            with self.context.adapters.postgres.connect() as connection:
                found = unreadable(connection)
            if found:
                return Status.FAIL, f"our role cannot read all rows of: {', '.join(found)}"
            return Status.PASS, "it may"

        if self.ahead:
            return [self.need("ahead", "The backup can be made before the stop", When.BEFOREHAND, self.ahead.look)]
        return [self.need("readable", "Our role can read every table and sequence", When.BEFOREHAND, readable)]

    def probe(self) -> Probe:
        """Report whether this run's dump exists, complete and unchanged. Read-only."""
        if self.ahead:
            return self.ahead.probe(self.left)
        if not self.path.exists():
            return Probe(Effect.NOT_DONE, "this run has made no dump")
        known = self.left.get("sha256")
        if known is None:
            return Probe(Effect.HALF_DONE, "the dump exists and was not read back yet")
        if known != sha256(self.path):
            return Probe(Effect.UNKNOWN, f"the dump {self.path} changed after it was written")
        return Probe(Effect.DONE, "the dump exists, with the recorded hash")

    def apply(self) -> Facts:
        """Dump, read back and hash, unless the dump exists already. Changes the target's backups only."""
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
        """Check that the backup holds the data of the changed table, if it can be inspected. Read-only."""
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
