"""What a step gives a person is the SQL that it executes itself: psql reaches the same, and the step undoes it."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_target
from runbook_lib.journal.control import Reporter
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.postgres import fence
from runbook_lib.postgres.connection import Postgres
from runbook_lib.rehearsal.database import Database
from runbook_lib.run.approval import bound
from runbook_lib.services import MemoryServices
from runbook_lib.steps import Effect, Step
from runbook_lib.steps.clear_backfill import ClearBackfill
from runbook_lib.steps.remove_columns import RemoveColumns

from ..support.places import TARGET
from ..support.removing import Journal
from ..support.sheets import in_psql, in_shell, state_of
from ..support.taking_back import migrated

Make = Callable[..., Step]
_numbers = itertools.count()


@pytest.fixture
def make(plan: Plan, database: Database, postgres: Postgres, tmp_path: Path) -> Make:
    """Makes a step of a run whose services are all stopped."""
    environment = {f"REHEARSAL_{name}": str(tmp_path) for name in ("ROOT", "API_TOKEN", "PG_BIN", "PYTHON")}
    environment |= {f"REHEARSAL_{name}_URL": "http://localhost:1" for name in ("BACKEND", "FRONTEND")}
    environment["REHEARSAL_APPLICATION_ROLE"] = database.application.name
    target = load_target(TARGET, environment)
    target = target.model_copy(update={"database": target.database.model_copy(update={"service": "test"})})
    folder = RunFolder.create(tmp_path, "INC-1", "full")
    (tmp_path / "backend").mkdir()

    def made(kind: type[Step], name: str, option: str, **choices: str) -> Step:
        journal = Journal()
        adapters = Adapters(target, folder, services=MemoryServices(plan.services, lambda name: []), postgres=postgres)
        state = RunState({"option": option}, "2025-11-03T12:00:00+00:00", "full", choices=choices)
        return kind(name, Context(plan, target, folder, adapters, state, "Dana", Reporter(journal, lambda: journal.debts)))

    return made


@pytest.fixture
def twin(database: Database) -> Iterator[Database]:
    """The same database once more."""
    copy = database.clone(f"twin_{next(_numbers)}")
    yield copy
    copy.drop()


def by_psql(step: Step, database: Database) -> None:
    for each in step.by_hand(step.preview()):
        assert each.kind == "sql"
        in_psql(each.text, database.server.tools, database.conninfo(database.runbook))


CASES = [
    (ClearBackfill, "clear-backfill", "A", {"STRATEGY": "batched"}),
    (ClearBackfill, "clear-backfill", "A", {"STRATEGY": "keyed", "EDITED": "clear"}),
    (RemoveColumns, "remove-columns", "B", {"REMOVAL": "quarantine"}),
    (RemoveColumns, "remove-columns", "B", {"REMOVAL": "drop"}),
]


@pytest.mark.parametrize(("kind", "name", "option", "choices"), CASES, ids=lambda value: str(value)[:24])
def test_psql_reaches_what_the_step_reaches(
    make: Make, database: Database, twin: Database, kind: type[Step], name: str, option: str, choices: dict[str, str]
) -> None:
    step = make(kind, name, option, **choices)
    run = step.context.folder.short
    by_psql(step, twin)
    step.context.state = replace(step.context.state, previews={"d": bound([step.preview()])}, approved="d")
    step.apply()

    assert state_of(twin, run) == state_of(database, run)


@pytest.mark.parametrize(("kind", "name", "option", "choices"), CASES, ids=lambda value: str(value)[:24])
def test_the_step_finds_it_done_proves_it_and_undoes_it(
    make: Make, database: Database, kind: type[Step], name: str, option: str, choices: dict[str, str]
) -> None:
    step = make(kind, name, option, **choices)
    run = step.context.folder.short
    before = state_of(database, run)
    by_psql(step, database)

    assert step.probe().effect is Effect.DONE
    assert {result.status for result in step.verify()} == {"PASS"}
    step.undo()
    assert state_of(database, run) == before


def test_writing_down_writes_nothing(make: Make, database: Database) -> None:
    steps = [make(kind, name, option, **choices) for kind, name, option, choices in CASES]
    previews = [(step, step.preview()) for step in steps]
    objects = "SELECT relname, relnamespace::regnamespace::text, relfilenode FROM pg_class ORDER BY 1, 2"
    with psycopg.connect(database.conninfo(), autocommit=True) as superuser:
        before = superuser.execute(objects).fetchall(), state_of(database, "none")
        assert all(step.by_hand(preview) for step, preview in previews)

        assert (superuser.execute(objects).fetchall(), state_of(database, "none")) == before


def test_a_change_without_values_is_taken_back_by_psql(template: Database, plan: Plan, tmp_path: Path) -> None:
    table = "CREATE TABLE shops (id int PRIMARY KEY, name text); INSERT INTO shops VALUES (1, 'a');"
    with migrated(template.server, plan, tmp_path, "_by_hand", table, "CREATE INDEX shops_name ON shops (name);") as found:
        step = found.step()
        given = step.by_hand(step.preview())
        assert [each.kind for each in given] == ["shell", "sql"], given
        dumped, script = given
        code, said = in_shell(dumped.text)
        assert (code, said) == (0, "")
        in_psql(script.text, template.server.tools, found.database.conninfo(found.database.runbook))

        assert "shops_name" not in state_of(found.database, "none")
        assert "shops_pkey" in state_of(found.database, "none")


def test_values_that_copies_hold_are_described(template: Database, plan: Plan, tmp_path: Path) -> None:
    table = "CREATE TABLE shops (id int PRIMARY KEY, name text); INSERT INTO shops VALUES (1, 'a');"
    with migrated(template.server, plan, tmp_path, "_by_hand", table, "UPDATE shops SET name = 'b';") as found:
        step = found.step()
        (said,) = step.by_hand(step.preview())

    assert (said.kind, "which no script can" in said.text) == ("words", True)


def test_the_fence_by_hand_keeps_out_and_lets_in_as_before(database: Database, postgres: Postgres) -> None:
    role, tools = database.application.name, database.server.tools
    with postgres.connect() as connection:
        up, down = fence.fence_by_hand(connection, role, "run-1"), fence.let_in_by_hand(connection, role)
        assert fence.gets_in(connection, role)

        in_psql(up, tools, database.conninfo(database.runbook))
        assert not fence.gets_in(connection, role)
        assert fence.standing(connection, role)

        in_psql(down, tools, database.conninfo(database.runbook))
        assert (fence.gets_in(connection, role), fence.standing(connection, role)) == (True, None)
