"""How far it is from a cell of a notebook to the first statement of a step."""

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from runbook_lib import notebook
from runbook_lib import run as run_module
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.rehearsal.database import Database
from runbook_lib.run import Run
from runbook_lib.run.lifecycle import open_new
from runbook_lib.steps.clear_backfill import ClearBackfill
from runbook_lib.ui import step_runner, widgets

from ..support.places import PLAN, ROOT, TARGET

LIBRARY = str(ROOT / "runbook_lib")
NAME = "clear-backfill"
MOST = 12


class Looking(Postgres):
    """Calls something at each statement."""

    look: Callable[[], None]

    @contextmanager
    def connect(self, database: str | None = None) -> Iterator[Connection]:
        with super().connect(database) as connection:
            execute = connection.execute

            def looked(*arguments: Any, **named: Any) -> Any:
                self.look()
                return execute(*arguments, **named)

            connection.execute = looked  # type: ignore[method-assign]
            yield connection


@pytest.fixture
def run(postgres: Postgres, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """An approved run of one step."""
    for name in ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON"):
        monkeypatch.setenv(f"REHEARSAL_{name}", "http://localhost:1")
    monkeypatch.setenv("REHEARSAL_PG_BIN", str(database.server.tools))
    monkeypatch.setenv("REHEARSAL_APPLICATION_ROLE", database.application.name)
    monkeypatch.setattr(run_module, "steps_of", lambda context: {NAME: ClearBackfill(NAME, context)})
    target = tmp_path / "target.yaml"
    target.write_text(TARGET.read_text().replace("service: rehearsal", f"service: {postgres.service}"))
    made = open_new(PLAN, target, "full", operator="Ann", outputs=tmp_path)
    made.approve(made.previews()[0], "Ann")
    made.journal.append("found", step="stop-services", title="Stop the services", outcome={"found": "none run"})
    return made


def stack() -> list[CodeType]:
    frame, found = sys._getframe(1), []
    while frame := frame.f_back:  # type: ignore[assignment]
        found.append(frame.f_code)
    return found[::-1]


def awaiting(cell: Any) -> list[CodeType]:
    found = []
    while isinstance(cell, Coroutine):
        found.append(cell.cr_code)  # type: ignore[attr-defined]
        cell = cell.cr_await  # type: ignore[attr-defined]
    return found


def named(frames: list[CodeType]) -> list[str]:
    found = [f"{Path(code.co_filename).stem}.{code.co_qualname}" for code in frames if code.co_filename.startswith(LIBRARY)]
    return found[found.index("notebook.apply") :]


@pytest.mark.parametrize("is_attended", [True, False], ids=["attended", "headless"])
def test_few_frames_lead_from_a_cell_to_the_first_statement_of_a_step(
    run: Run, monkeypatch: pytest.MonkeyPatch, is_attended: bool
) -> None:
    real, seen = run.context.adapters.postgres, list[list[str]]()
    postgres = Looking(real.service, real.run, real.guard)
    run.context.adapters = run.context.adapters.but(postgres=postgres)
    for module in (step_runner, widgets):
        monkeypatch.setattr(module, "attended", lambda: is_attended)
    cell = notebook.apply(run, NAME)

    def look() -> None:
        beside = threading.current_thread() is not threading.main_thread()
        frames = [*awaiting(cell), *stack()] if beside else stack()
        if any(code.co_filename == sys.modules[ClearBackfill.__module__].__file__ for code in frames):
            seen.append(named(frames))

    object.__setattr__(postgres, "look", look)
    asyncio.run(cell)  # type: ignore[arg-type]

    print("\n".join(seen[0]))
    assert any(name.startswith("clear_backfill.") for name in seen[0])
    assert len(seen[0]) <= MOST
