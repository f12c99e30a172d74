"""A run of option C, and the backup that it restores."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from runbook_lib.config.plan import Plan
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_target
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import replay
from runbook_lib.postgres.connection import Postgres
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.run import Run

from ...support.places import TARGET
from ...support.restoring import ASIDE, SWAP, Restoring


@pytest.fixture(scope="session")
def copies(backup: Path) -> list[str]:
    """The database that is a copy of what `backup` was restored into, once a test has had it restored."""
    return []


@pytest.fixture
def really_restored(restoring: "Restoring") -> None:
    """Have nothing copied: the test is about the restore itself."""
    restoring.copies = None


@pytest.fixture
def restoring(
    database: Database,
    postgres: Postgres,
    backup: Path,
    copies: list[str],
    plan: Plan,
    tmp_path: Path,
) -> Iterator[Restoring]:
    backups = tmp_path / "backups"
    backups.mkdir()
    os.link(backup, backups / backup.name)
    environment = {f"REHEARSAL_{name}": "http://x.test" for name in ("BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PYTHON")}
    environment |= {"REHEARSAL_ROOT": str(tmp_path), "REHEARSAL_PG_BIN": str(database.server.tools or binaries())}
    environment |= {"REHEARSAL_APPLICATION_ROLE": database.application.name}
    target = load_target(TARGET, environment)
    target = target.model_copy(update={"database": target.database.model_copy(update={"service": postgres.service})})
    kind = plan.types["restore"].model_copy(update={"steps": [ASIDE, SWAP]})
    plan = plan.model_copy(update={"types": plan.types | {"restore": kind}})
    folder = RunFolder.create(tmp_path, "INC-1", "restore")
    about = {"target": "test", "environment": "rehearsal", "operator": "", "reason": "", "incident": "", "plan": "p"}
    journal = Journal(folder.journal_path)
    journal.append("opened", type="restore", option="C", **about)
    journal.append("found", step="stop-services", title="Stop the services", outcome={"found": "none runs here"})
    context = Context(plan, target, folder, Adapters(target, folder, "tester"), replay(journal.events()), "tester")
    made = Restoring(Run(folder, context), database, backups, backup, copies)
    yield made
    made.run.close_adapters()
    with database.server.connect() as it:
        for name in made.databases.values():
            it.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
