"""Option C on a real server: the backup restored aside, the loss counted and approved, the names exchanged and back."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from runbook_lib import loop
from runbook_lib.folder import RunFolder
from runbook_lib.journal import Journal
from runbook_lib.opening import open_existing
from runbook_lib.plan import Plan
from runbook_lib.rehearsal.data import dump
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.run import Run
from runbook_lib.context import Context
from runbook_lib.target import load_target
from datetime import UTC, datetime

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def backup(template: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of the sample database as every test finds it, with the feature's columns."""
    return dump(template, tmp_path_factory.mktemp("backups"))


@dataclass
class Restoring:
    """A run of option C on a clone of the sample database."""

    run: Run
    database: Database
    backups: Path

    def ask(self, query: LiteralString, database: str | None = None) -> list[Any]:
        with self.database.server.connect(dbname=database or self.database.name) as it:
            return it.execute(query).fetchall()

    def change(self, *queries: LiteralString) -> None:
        """Change the live database as the application would."""
        with psycopg.connect(self.database.conninfo(self.database.application), autocommit=True) as it:
            for query in queries:
                it.execute(query)

    def approve(self) -> None:
        digest, _ = self.run.previews()
        self.run.approve(digest, "tester")

    def aside(self) -> loop.Done:
        self.approve()
        return loop.apply(self.run, "restore-aside")

    def swap(self) -> loop.Done:
        self.aside()
        self.approve()
        return loop.apply(self.run, "swap-database")

    @property
    def databases(self) -> set[str]:
        rows = self.ask("SELECT datname FROM pg_database", "postgres")
        return {name for (name,) in rows if name.startswith(self.database.name)}


@pytest.fixture
def restoring(
    database: Database, postgres: Any, backup: Path, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Restoring]:
    backups = tmp_path / "backups"
    backups.mkdir()
    os.link(backup, backups / backup.name)
    environment = {f"REHEARSAL_{name}": "http://x.test" for name in ("BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PYTHON")}
    environment |= {"REHEARSAL_ROOT": str(tmp_path), "REHEARSAL_PG_BIN": str(binaries())}
    environment |= {"REHEARSAL_APPLICATION_ROLE": database.application.name}
    target = load_target(ROOT / "parameters" / "rehearsal.yaml", environment)
    target = target.model_copy(update={"database": target.database.model_copy(update={"service": postgres.service})})
    kind = plan.types["restore"].model_copy(update={"steps": ["restore-aside", "swap-database"]})
    plan = plan.model_copy(update={"types": plan.types | {"restore": kind}})
    folder = RunFolder.create(tmp_path, "INC-1", "restore")
    about = {"target": "test", "environment": "rehearsal", "operator": "", "reason": "", "incident": "", "plan": "p"}
    Journal(folder.journal_path).append("opened", type="restore", option="C", **about)
    context = Context(plan, target, folder, "restore", "C", "tester", datetime.now(UTC))
    made = Restoring(Run(folder, context), database, backups)
    yield made
    made.run.close_adapters()
    with database.server.connect() as it:
        for name in made.databases:
            it.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


ROWS: LiteralString = "SELECT to_jsonb(m) FROM messages m ORDER BY id"


def test_first(restoring: Restoring) -> None:
    before = restoring.ask(ROWS)
    restoring.change("DELETE FROM messages WHERE id = 7", "UPDATE messages SET content = 'x' WHERE id = 8",
        "INSERT INTO messages (conversation_id, sender_id, content) VALUES (1, 1, 'new')")
    digest, previews = restoring.run.previews()
    for p in previews: print(p)
    done = restoring.swap()
    print(done)
    assert restoring.ask(ROWS) == before
    print(restoring.databases)
