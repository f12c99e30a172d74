"""A database of two roles to which a migration was applied, and the step that takes it back by a draft."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from runbook_lib.config.plan import Draft, Plan
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_target
from runbook_lib.journal.control import Reporter
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.postgres.connection import Postgres
from runbook_lib.rehearsal import draft as drafting
from runbook_lib.rehearsal.database import Database, create_empty_database
from runbook_lib.rehearsal.postgres import Server
from runbook_lib.results import Result, not_passed
from runbook_lib.services import MemoryServices
from runbook_lib.steps.take_back import TakeBack, TakeBackKeys

from .places import TARGET
from .removing import Journal


@dataclass
class Migrated:
    """A database to which a migration was applied and which users used since, and the draft of that."""

    database: Database
    plan: Plan
    folder: Path
    made: drafting.Made
    journal: Journal

    def step(self, **journaled: object) -> TakeBack:
        """The step as a process of the run makes it, with what it has journaled."""
        environment = {f"REHEARSAL_{name}": str(self.folder) for name in ("API_TOKEN", "PG_BIN", "PYTHON")}
        environment |= {f"REHEARSAL_{name}_URL": "http://localhost:1" for name in ("BACKEND", "FRONTEND")}
        environment |= {"REHEARSAL_ROOT": str(self.folder), "REHEARSAL_APPLICATION_ROLE": self.database.application.name}
        target = load_target(TARGET, environment)
        tools = str(self.database.server.tools)
        there = target.database.model_copy(update={"service": "test", "tools": tools})
        backups = target.backups.model_copy(update={"directory": str(self.folder)})
        target = target.model_copy(update={"database": there, "backups": backups})
        draft = Draft(changes=self.made.file.name, sha256=self.made.sha256)
        steps = {**self.plan.steps, "take-back": TakeBackKeys.model_validate({"kind": "take_back"})}
        plan = self.plan.model_copy(update={"steps": steps, "draft_": draft, "migration": None})
        folder = RunFolder.create(self.folder / "outputs", "INC-1", "full")
        services = MemoryServices(plan.services, lambda name: [])
        adapters = Adapters(target, folder, services=services, postgres=Postgres("test", "r1"))
        state = RunState({"option": "B"}, "2025-11-03T12:00:00+00:00", "full", **journaled)  # type: ignore[arg-type]
        reporter = Reporter(self.journal, lambda: self.journal.debts)
        return TakeBack("take-back", Context(plan, target, folder, adapters, state, "Dana", reporter))

    def execute(self, script: str) -> list[tuple[object, ...]]:
        """Execute SQL as the application does."""
        with self.database.server.connect(**self.database.parameters(self.database.application)) as connection:
            cursor = connection.execute(script)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def databases(self) -> set[str]:
        """The databases of the server that the run made."""
        with self.database.server.connect() as connection:
            found = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", ["%\\_r1"])
            return {name for (name,) in found}


@contextmanager
def migrated(
    server: Server, plan: Plan, folder: Path, suffix: str, before: str, migration: str, use: str = ""
) -> Iterator[Migrated]:
    """A database of its own, whose owner applied the migration and used it, until the block ends."""
    database = create_empty_database(server, suffix)
    for name, text in (("before.sql", before), ("up.sql", migration)):
        (folder / name).write_text(text)
    made = drafting.make("SHOP-1", folder / "before.sql", [folder / "up.sql"], server.conninfo(), folder, lambda _: None)
    parameters = database.parameters(database.runbook)
    (folder / "services").write_text("\n".join(["[test]", *(f"{k}={v}" for k, v in parameters.items()), ""]))
    found = Migrated(database, plan, folder, made, Journal())
    try:
        with patch.dict("os.environ", {"PGSERVICEFILE": str(folder / "services")}):
            for script in (before, migration, use):
                if script:
                    found.execute(script)
            yield found
    finally:
        database.drop_all()


Make = Callable[..., Migrated]


def summaries(found: list[Result]) -> str:
    """What the looks that did not pass found."""
    return "; ".join(f"{each.name}: {each.summary}" for each in not_passed(found))


def approved(found: Migrated) -> TakeBack:
    """The step, which was previewed, with nothing in its way."""
    step = found.step()
    _, looks = step.previewed(begun=False)
    assert not_passed(looks) == []
    return step
