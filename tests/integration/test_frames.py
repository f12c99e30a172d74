"""How far it is from a cell of a notebook to the statements of a step, and that the way there only goes down."""

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from types import CodeType
from typing import Any

import psycopg
import pytest
from psycopg import sql

from runbook_lib import notebook, steps
from runbook_lib.config.plan import Draft, Plan
from runbook_lib.documents import load_plan
from runbook_lib.postgres.connection import Postgres
from runbook_lib.rehearsal import draft
from runbook_lib.rehearsal.database import Database
from runbook_lib.run import Run, engine
from runbook_lib.run.lifecycle import open_new
from runbook_lib.services import MemoryServices
from runbook_lib.steps.take_back import TakeBackKeys
from runbook_lib.ui import step_runner, widgets

from ..support.places import PLAN, ROOT, TARGET
from ..support.rooms import floors, modules, room, rooms

pytestmark = pytest.mark.newest

MOST = 12
STEPS = [  # of the plan, one of each kind that speaks SQL
    "stop-services", "fence-application", "let-application-in", "back-up", "clear-backfill", "remove-columns",
    "restore-staging", "swap-database", "restore-media-url", "end-sessions",
    "take-back",
]  # fmt: skip
RESTS_ON = {"let-application-in": ["fence-application"], "swap-database": ["restore-staging"]}
SILENT = {"start", "restart"}  # in the module of `stop`, but they ask the services alone


@cache
def heights() -> dict[str, int]:
    """The floor of each room."""
    return {name: floor for floor, names in enumerate(floors(rooms())) for name in names}


@dataclass(frozen=True)
class Frame:
    """A frame of the library on the way to a statement."""

    module: str
    function: str

    @property
    def room(self) -> str:
        return room(self.module)

    @property
    def floor(self) -> int:
        return heights()[self.room]

    def __str__(self) -> str:
        return f"{self.floor:2} {self.module.removeprefix('runbook_lib.')}.{self.function}"


CELL = Frame("runbook_lib.notebook", "apply")


@dataclass
class Walk:
    """Where a chain of frames goes from room to room."""

    climbs: list[tuple[Frame, Frame]]  # to a frame on a higher floor
    callbacks: int  # the same, where a module on the chain is called back: it has handed its function down
    returns: list[Frame]  # to a room that was left, where nobody was called back


def walked(frames: list[Frame]) -> Walk:
    found, path = Walk([], 0, []), frames[:1]
    for before, frame in pairwise(frames):
        there = [number for number, other in enumerate(path) if other.module == frame.module]
        if frame.floor > before.floor and there:
            found.callbacks += 1
            del path[there[-1] + 1 :]  # what is called from here is called by that module
        elif frame.floor > before.floor:
            found.climbs.append((before, frame))
        elif frame.room != before.room and frame.room in {other.room for other in path}:
            found.returns.append(frame)
        path.append(frame)
    return found


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


def of_library(codes: list[CodeType]) -> list[Frame]:
    """The library's frames from the cell's on; a worker's begin where the worker does."""
    files = [(Path(code.co_filename), code.co_qualname) for code in codes]
    inside = [(file.relative_to(ROOT), name) for file, name in files if file.is_relative_to(ROOT / "runbook_lib")]
    found = [Frame(".".join(file.with_suffix("").parts).removesuffix(".__init__"), name) for file, name in inside]
    return found[found.index(CELL) :] if CELL in found else found


@pytest.fixture(params=STEPS)
def name(request: pytest.FixtureRequest) -> str:
    """The step that is executed."""
    return str(request.param)


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The first plan, and a step of the one kind that it has no use for."""
    first = load_plan(PLAN)
    take_back = TakeBackKeys.model_validate({"kind": "take_back"})
    return first.model_copy(update={"steps": {**first.steps, "take-back": take_back}})


def drafted(database: Database, backup: Path, folder: Path) -> Draft:
    """The draft of a migration that was applied since the backup."""
    script = folder / "up.sql"
    script.write_text("ALTER TABLE messages ADD COLUMN mood text")
    made = draft.make("SHOP-1", backup, [script], database.server.conninfo(), folder, lambda _: None)
    with psycopg.connect(database.conninfo(database.application)) as connection:
        connection.execute(script.read_bytes())
    return Draft(changes=made.file.name, sha256=made.sha256)


@pytest.fixture
def run(
    name: str,
    postgres: Postgres,
    database: Database,
    backup: Path,
    plan: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Run]:
    """A run in which the step is approved, and what it rests on is done."""
    for key in ("BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PYTHON"):
        monkeypatch.setenv(f"REHEARSAL_{key}", "http://localhost:1")
    monkeypatch.setenv("REHEARSAL_ROOT", str(tmp_path))
    monkeypatch.setenv("REHEARSAL_PG_BIN", str(database.server.tools))
    monkeypatch.setenv("REHEARSAL_APPLICATION_ROLE", database.application.name)
    (tmp_path / "backups").mkdir()
    os.link(backup, tmp_path / "backups" / backup.name)
    target = tmp_path / "target.yaml"
    target.write_text(TARGET.read_text().replace("service: rehearsal", f"service: {postgres.service}"))
    option = next(iter(plan.steps[name].options or "A"))
    made = open_new(PLAN, target, "full", option=option, operator="Ann", outputs=tmp_path)
    full = plan.types["full"].model_copy(update={"steps": [*RESTS_ON.get(name, []), name]})
    added = {"draft_": drafted(database, backup, tmp_path / "backups")} if name == "take-back" else {}
    made.context.plan = plan.model_copy(update={"types": plan.types | {"full": full}, **added})
    services = MemoryServices(plan.services)
    made.context.adapters = made.context.adapters.but(services=services)
    made.waive("same-database", "the backup is of the database that this one was cloned from")
    if name == "stop-services":
        services.start(*plan.services)
    else:
        made.journal.append("found", step="stop-services", title="Stop the services", outcome={"found": "none run"})
    if name == "restore-media-url":
        with database.server.connect(dbname=database.name) as it:
            it.execute("UPDATE messages SET media_url = NULL WHERE media_url IS NOT NULL AND id % 2 = 0")
    if name == "end-sessions":
        request.getfixturevalue("application")
    for each in RESTS_ON.get(name, []):
        made.approve(made.previews()[0], "Ann")
        engine.apply(made, each)
    made.approve(made.previews()[0], "Ann")
    yield made
    made.close_adapters()
    others = f"^{database.name}_(restored|before_rollback|kept)_"
    with database.server.connect() as it:
        for (other,) in it.execute("SELECT datname FROM pg_database WHERE datname ~ %s", [others]).fetchall():
            it.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(other)))


@pytest.mark.parametrize("is_attended", [True, False], ids=["attended", "headless"])
def test_few_frames_lead_down_from_a_cell_to_a_statement_of_a_step(
    run: Run, name: str, monkeypatch: pytest.MonkeyPatch, is_attended: bool
) -> None:
    for module in (step_runner, widgets):
        monkeypatch.setattr(module, "attended", lambda: is_attended)
    seen, cell, execute = list[list[Frame]](), notebook.apply(run, name), psycopg.Cursor.execute

    def looked(*arguments: Any, **named: Any) -> Any:
        is_worker = threading.current_thread() is not threading.main_thread()
        seen.append(of_library([*awaiting(cell), *stack()] if is_worker else stack()))
        return execute(*arguments, **named)

    monkeypatch.setattr(psycopg.Cursor, "execute", looked)
    asyncio.run(cell)  # type: ignore[arg-type]
    monkeypatch.undo()

    of_step = [frames for frames in seen if any(frame.module == type(run.steps[name]).__module__ for frame in frames)]
    first, walks = of_step[0], [walked(frames) for frames in seen]
    print(*first, sep="\n")
    print(
        f"{name}: {len(first)} frames, {len({frame.room for frame in first})} rooms to its first statement; "
        f"{len(seen)} statements, {max(map(len, seen))} frames at most, {sum(map(len, (w.climbs for w in walks)))} climbs, "
        f"{sum(walk.callbacks for walk in walks)} callbacks, {sum(map(len, (w.returns for w in walks)))} returns"
    )
    assert [event.kind for event in run.journal.events() if event.data.get("step") == name].count("applied") == 1
    assert first[0] == CELL
    assert len(first) <= MOST
    assert set(chain.from_iterable(walk.climbs for walk in walks)) == set()
    assert set(chain.from_iterable(walk.returns for walk in walks)) == set()


def test_every_kind_that_speaks_sql_is_among_them(plan: Plan) -> None:
    graph, kinds = modules(), steps.kinds()
    speaking = {kind for kind, step in kinds.items() if any(room(other) == "postgres" for other in graph[step.__module__])}

    assert speaking - SILENT == {plan.steps[name].kind for name in STEPS}
    assert speaking >= SILENT


def test_a_climb_is_noticed_and_a_callback_is_none() -> None:
    above, below, other = (Frame(f"runbook_lib.{name}", "f") for name in ("steps", "postgres.lease", "checks"))

    assert walked([above, below, other]) == Walk([(below, other)], 0, [])
    assert walked([above, below, above, below]) == Walk([], 1, [])
    assert walked([above, other, below, Frame("runbook_lib.postgres.dump", "g")]) == Walk([], 0, [])
