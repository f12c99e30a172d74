"""The step of a run with option B."""

from pathlib import Path

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_target
from runbook_lib.journal.control import Reporter
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.postgres.connection import Postgres
from runbook_lib.rehearsal.database import Database
from runbook_lib.services import MemoryServices
from runbook_lib.steps.remove_columns import RemoveColumns

from ...support.places import TARGET
from ...support.removing import Journal


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def step(plan: Plan, database: Database, postgres: Postgres, journal: Journal, tmp_path: Path) -> RemoveColumns:
    """The step of a run with option B whose services are all stopped."""
    environment = {f"REHEARSAL_{name}": str(tmp_path) for name in ("ROOT", "API_TOKEN", "PG_BIN", "PYTHON")}
    environment |= {f"REHEARSAL_{name}_URL": "http://localhost:1" for name in ("BACKEND", "FRONTEND")}
    environment["REHEARSAL_APPLICATION_ROLE"] = database.application.name
    target = load_target(TARGET, environment)
    target = target.model_copy(update={"database": target.database.model_copy(update={"service": "test"})})
    folder = RunFolder.create(tmp_path, "INC-1", "full")
    adapters = Adapters(target, folder, services=MemoryServices(plan.services, lambda name: []), postgres=postgres)
    state = RunState({"option": "B"}, "2025-11-03T12:00:00+00:00", "full")
    context = Context(plan, target, folder, adapters, state, "Dana", Reporter(journal, lambda: journal.debts))
    (tmp_path / "backend").mkdir()
    return RemoveColumns("remove-columns", context)
