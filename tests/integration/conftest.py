"""A real PostgreSQL: one server a session, one clone of the sample database a test."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from runbook_lib.adapters.postgres.connection import Connection, Postgres
from runbook_lib.plan import Database as DatabasePlan
from runbook_lib.plan import Plan, load_plan
from runbook_lib.rehearsal.data import create_database
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import embedded_server

from .integration_two import Two, two_of

ROOT = Path(__file__).parents[2]
ROWS = 600

_numbers = itertools.count()


@pytest.fixture(scope="session")
def template() -> Iterator[Database]:
    with embedded_server() as server:
        yield create_database(server, ROWS)


@pytest.fixture
def database(template: Database) -> Iterator[Database]:
    """A clone that the test may spoil."""
    clone = template.clone(f"test_{next(_numbers)}")
    yield clone
    clone.drop()


@pytest.fixture
def postgres(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """The clone as a run reaches it: by a libpq service, in the runbook's role."""
    lines = (f"{name}={value}" for name, value in database.parameters(database.runbook).items())
    (tmp_path / "services").write_text("\n".join(["[test]", *lines, ""]))
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    return Postgres("test", "test")


@pytest.fixture
def connection(postgres: Postgres) -> Iterator[Connection]:
    with postgres.connect() as it:
        yield it


@pytest.fixture
def application(database: Database) -> Iterator[psycopg.Connection]:
    """A connection in the application's role."""
    with psycopg.connect(database.conninfo(database.application), autocommit=True) as it:
        yield it


@pytest.fixture(scope="session")
def plan() -> Plan:
    return load_plan(ROOT / "parameters" / "feat-2025-20251103111429.yaml")


@pytest.fixture(scope="session")
def changed(plan: Plan) -> Callable[..., DatabasePlan]:
    """The plan's database part with some keys of its backfill changed."""

    def change(**keys: object) -> DatabasePlan:
        return plan.database.model_copy(update={"backfill": plan.database.backfill.model_copy(update=keys)})

    return change


@pytest.fixture
def two(template: Database, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    """The live database and one restored from its backup, as a run reaches them."""
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "two"))
    with two_of(template, f"test_{next(_numbers)}", tmp_path / "two", plan.database) as it:
        yield it
