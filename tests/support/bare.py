"""A target that comes up in a moment, for the command line: a real database and checkout, services that are files."""

import io
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
import psycopg
import yaml

from runbook_lib import cli
from runbook_lib.documents import resolved
from runbook_lib.rehearsal.database import Database, dump
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.run import Run, lifecycle

from .commands import words as words
from .places import PLAN

SERVICES = ("frontend", "backend", "worker")
STEPS = ("stop-services", "back-up", "clear-backfill", "remove-columns", "restore-staging", "swap-database")
CODES = ("feature", "before")
CELLS = (
    "from runbook_lib.notebook import apply, approve, check_prerequisites, choose_details, close, open_run, preview, verify",
    'run = await open_run("", "", type="full", run=RUN, waive=WAIVE)',
    "await check_prerequisites(run)",
    "await preview(run)",
    "await approve(run, APPROVE)",
)
IN_THE_END = ("await verify(run)", "await close(run)")
DIES = """import os, re, signal
from pkgutil import resolve_name

owner, name = re.split(r"[.:](?=\\w+$)", {at!r})
setattr(resolve_name(owner), name, lambda *_, **__: [os.kill(pid, signal.SIGKILL) for pid in {whom}])"""
DIES_IN = """import os, signal, psycopg
from runbook_lib.run import engine as loop

left, execute, act = [{statement}], psycopg.Cursor.execute, loop._act

def counted(cursor, *args, **more):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(cursor, *args, **more)

def acting(run, step, event, action):
    if step.name == {step!r}:
        psycopg.Cursor.execute = counted
    return act(run, step, event, action)

loop._act = acting"""
PARAMETERS = 'RUN: str = ""\nAPPROVE: str = ""\nWAIVE: str = ""\nOPTION: str = ""'


@dataclass(frozen=True)
class Ended:
    """What a command printed on both streams, with its broken lines joined and as it was, and its exit code."""

    exit_code: int
    text: str
    printed: str


@dataclass
class Bare:
    """A plan, a target and the database behind it; a test changes `plan` before the first command."""

    root: Path
    database: Database
    plan: dict[str, Any]
    target: dict[str, Any]
    run: Path = field(default_factory=Path)
    digest: str = ""
    before: dict[str, str] = field(default_factory=dict)  # step -> a cell that is executed before it

    def dying(self, at: str) -> None:
        """Have the kernel killed, by SIGKILL, where it comes to `at` ("module:Class.method"); "" for no more."""
        self._write([DIES.format(at=at, whom="[os.getpid()]")] if at else [])

    def crashed(self, at: str) -> int:
        """`runbook run` in a process of its own, which dies with its kernel where that comes to `at`; the exit code."""
        self._write([DIES.format(at=at, whom="[os.getppid(), os.getpid()]")])
        command = [Path(sys.executable).with_name("runbook"), "run", self.run, "--approve", self.digest]
        ended = subprocess.run(command, capture_output=True, check=False, timeout=60)
        self._write()
        return ended.returncode

    def dying_in(self, step: str, statement: int) -> None:
        """Have the kernel killed, by SIGKILL, before that statement which a step sends once it has begun to act."""
        self._write([DIES_IN.format(step=step, statement=statement)])

    def steps(self, *names: str, **changed: Mapping[str, Any]) -> None:
        """Have the plan's full rollback walk these steps alone, each with some keys changed."""
        for name, keys in changed.items():
            self.plan["steps"][name.replace("_", "-")] |= keys
        self.plan["types"]["full"]["steps"] = list(names)

    def write(self) -> None:
        """Write plan, target and notebook as they are now."""
        self._write()

    def planned(self, option: str = "A", choose: str = "") -> Ended:
        """`runbook plan`; where it gives a digest, the run and it are kept."""
        self._write()
        command = ["plan", "--plan", self.root / "plan.yaml", "--target", self.root / "target.yaml", "--type", "full"]
        before = set((self.root / "outputs").iterdir())
        with runs_in(self.root / "outputs"):
            ended = runbook(*command, "--verbose", "--option", option, *(["--choose", choose] if choose else []))
        made = set((self.root / "outputs").iterdir()) - before
        self.run = made.pop() if made else Path()
        previews = self.opened().state.previews if self.run.name else {}
        self.digest = next(reversed(previews), "")
        return ended

    def executed(self, *more: str) -> Ended:
        """`runbook run` with the digest of the preview."""
        return runbook("run", self.run, "--approve", self.digest, *more)

    def opened(self) -> Run:
        """The run, opened in this process."""
        return lifecycle.open_existing(self.run)

    def status(self) -> str:
        """What the run's outcome is."""
        return str((self.opened().state.outcome or {}).get("status", ""))

    def running(self) -> set[str]:
        """The services that run."""
        return {path.name for path in (self.root / "services").iterdir()}

    def ask(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What the application's role is answered, or does."""
        with psycopg.connect(self.database.conninfo(self.database.application), autocommit=True) as connection:
            cursor = connection.execute(query, parameters or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def as_superuser(self, *statements: str) -> None:
        """Execute statements on the database as the superuser."""
        with self.database.server.connect(dbname=self.database.name) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]

    def takes_connections(self) -> bool:
        """Whether anybody can connect to the database."""
        with self.database.server.connect() as connection:
            found = connection.execute("SELECT datallowconn FROM pg_database WHERE datname = %s", [self.database.name])
            return bool(found.fetchone()[0])  # type: ignore[index]

    def backed_up(self) -> None:
        """Take the backup that the prerequisites look for again, of the database as it is now."""
        for path in (self.root / "backups").iterdir():
            path.unlink()
        dump(self.database, self.root / "backups")

    def dump(self, option: str, path: Path) -> None:
        """Write a dump of the database, made with an option of pg_dump, to a file."""
        tool = (self.database.server.tools or binaries()) / "pg_dump"
        subprocess.run([tool, "--format=custom", option, f"--file={path}", self.database.conninfo()], check=True)

    def _write(self, first: Sequence[str] = ()) -> None:
        (self.root / "plan.yaml").write_text(yaml.safe_dump(self.plan, sort_keys=False))
        (self.root / "target.yaml").write_text(yaml.safe_dump(self.target, sort_keys=False))
        names = self.plan["types"]["full"]["steps"]
        steps = [cell for name in names for cell in (self.before.get(name, "pass"), f"await apply(run, {name!r})")]
        cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
        cells += [nbformat.v4.new_code_cell(text) for text in (CELLS[0], *first, *CELLS[1:], *steps, *IN_THE_END)]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), self.root / "steps.ipynb")


def runbook(*arguments: object) -> Ended:
    """What a command line of `runbook` does, in this process; a notebook's kernel is a process of its own."""
    out = io.StringIO()
    with patch.object(sys, "argv", ["runbook", *map(str, arguments)]), redirect_stdout(out), redirect_stderr(out):
        try:
            cli.main()
            code: object = 0
        except SystemExit as ended:
            code = ended.code
    printed = out.getvalue()
    return Ended(int(code or 0), printed if "--json" in arguments else words(printed), printed)  # type: ignore[call-overload]


@contextmanager
def bare(database: Database, root: Path) -> Iterator[Bare]:
    """A bare target on that database, whose libpq service is named "test"."""
    for name in ("services", "backups", "outputs", "backend"):
        (root / name).mkdir()
    for name in SERVICES:
        (root / "services" / name).touch()
    _checkout(root / "backend")
    dump(database, root / "backups")
    yield Bare(root, database, _plan(root), _target(root, database))


def _plan(root: Path) -> dict[str, Any]:
    plan = resolved(PLAN)
    steps = {name: plan["steps"][name] for name in STEPS}
    steps["restore-media-url"] = {**plan["steps"]["restore-media-url"], "options": ["R"]}
    every = [{"code": c, "schema": s, "data": d} for c in CODES for s in CODES for d in CODES]
    full = {
        "title": "Full",
        "notebook": str(root / "steps"),
        "options": {"A": "Clear", "B": "Remove", "C": "Restore", "R": "Restore a part"},
        "steps": ["stop-services", "back-up", "clear-backfill"],
        "checks": ["only-intended-rows"],
        "budget": 600,
    }
    checks = {name: plan["checks"][name] for name in ("only-intended-rows", "backfill-intact", "schema-expected")}
    return {
        **plan,
        "repositories": {"backend": {}},
        "compatibility": every,
        "needs": [],
        "steps": steps,
        "types": {"full": full},
        "checks": checks,
        "decision_matrix": [],
        "troubles": {},
        "escalation": [],
    }


def _target(root: Path, database: Database) -> dict[str, Any]:
    commands = {
        "list": ["ls", "."],
        "running": ["sh", "-c", "test -e {service} && echo up || true"],
        "stop": ["rm", "-f", "{service}"],
        "start": ["touch", "{service}"],
        "logs": ["true"],
    }
    return {
        "name": "bare",
        "environment": "rehearsal",
        "database": {
            "service": "test",
            "application_role": database.application.name,
            "tools": str(database.server.tools or binaries()),
        },
        "backups": {
            "directory": str(root / "backups"),
            "pattern": "backup_before_attachments_backfill_*.dump",
            "oldest_hours": 48,
        },
        "services": {
            "manager": "commands",
            "directory": str(root / "services"),
            "timeout": 10,
            "commands": commands,
            "versions": {name: {"log": "version (.*)"} for name in SERVICES},
            "built_from": dict.fromkeys(SERVICES, "backend"),
        },
        "repositories": {"backend": {"path": str(root / "backend"), "build": ["true"]}},
        "endpoints": {name: "http://127.0.0.1:1" for name in SERVICES},
        "api_token": {"env": "BARE_TOKEN"},
        "contacts": dict.fromkeys(("On-Call Engineer", "Database Admin", "DevOps Lead", "Product Owner"), "a test"),
    }


def _checkout(path: Path) -> None:
    (path / "migrations").mkdir()
    (path / "migrations" / "039_message_replies_and_attachments.sql").touch()
    name = ["-c", "user.name=Test", "-c", "user.email=test@test.test"]
    for git in (["init", "-q", "-b", "main"], ["add", "."], [*name, "commit", "-q", "-m", "The feature"]):
        subprocess.run(["git", *git], cwd=path, check=True, capture_output=True)


@contextmanager
def runs_in(outputs: Path) -> Iterator[None]:
    """Have new runs begin in that folder."""
    create = lifecycle.RunFolder.create
    with patch.object(lifecycle.RunFolder, "create", lambda _, *more: create(outputs, *more)):
        yield
