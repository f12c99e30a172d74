"""A real PostgreSQL, of each version that is promised: a server of each a session, a clone of the sample database a test."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import psycopg
import pytest

from runbook_lib.config.plan import Database as DatabasePlan
from runbook_lib.config.plan import Plan
from runbook_lib.documents import load_plan
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.rehearsal.database import Database, create_database, dump
from runbook_lib.rehearsal.postgres import Server, binaries, debian_programs, embedded_server

from ..support.bare import Bare, bare
from ..support.behind import Behind
from ..support.pgbouncer import pgbouncer
from ..support.places import PLAN
from ..support.relay import Pooler, Relay, relaying
from ..support.taking_back import Make, Migrated, migrated
from ..support.two import Two, two_of

ROWS = 600
EMBEDDED = 18
OLDER = 15

_numbers = itertools.count()


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[int], Server]]:
    """The server of a major version; each starts once, when it is first asked for."""
    with ExitStack() as ending:

        @cache
        def started(major: int) -> Server:
            programs = binaries() if major == EMBEDDED else debian_programs(major)
            if programs is None:
                pytest.skip(f"PostgreSQL {major} is not installed; `.ci/setup test` installs it, as root on Debian 12")
            return ending.enter_context(embedded_server(programs))

        yield started


@pytest.fixture(scope="session")
def templates(servers: Callable[[int], Server]) -> Callable[[int], Database]:
    """The sample database on the server of a major version."""
    return cache(lambda major: create_database(servers(major), ROWS))


@pytest.fixture(
    scope="session",
    params=[pytest.param(OLDER, id=f"pg{OLDER}", marks=pytest.mark.older), pytest.param(EMBEDDED, id=f"pg{EMBEDDED}")],
)
def version(request: pytest.FixtureRequest) -> int:
    """The server's major version: every test on a database runs on each."""
    return int(request.param)


@pytest.fixture(scope="session")
def template(version: int, templates: Callable[[int], Database]) -> Database:
    return templates(version)


@pytest.fixture(scope="session")
def backup(template: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump of the sample database as every test finds it, with the feature's columns."""
    return dump(template, tmp_path_factory.mktemp("backups"))


@pytest.fixture
def database(template: Database) -> Iterator[Database]:
    """A clone that the test may spoil."""
    clone = template.clone(f"test_{next(_numbers)}")
    yield clone
    clone.drop()


@pytest.fixture
def measured(database: Database) -> Iterator[Database]:
    """A clone on a server that measures statements, for this test alone."""
    database.server.measure_statements()
    yield database
    with database.server.connect() as superuser:
        superuser.execute("DROP EXTENSION IF EXISTS pg_stat_statements")


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
    return load_plan(PLAN)


@pytest.fixture(scope="session")
def changed(plan: Plan) -> Callable[..., DatabasePlan]:
    """The plan's database part with some keys of its backfill changed."""

    def change(**keys: object) -> DatabasePlan:
        return plan.database.model_copy(update={"backfill": plan.database.backfill.model_copy(update=keys)})

    return change


@pytest.fixture
def relayed(database: Database, tmp_path: Path, postgres: Postgres) -> Iterator[Callable[..., tuple[Postgres, Relay]]]:
    """The clone as a run reaches it through a relay, or through a pooler."""
    with ExitStack() as ending:

        def made(kind: type[Relay] = Relay) -> tuple[Postgres, Relay]:
            parameters = database.parameters(database.runbook)
            if issubclass(kind, Pooler):
                kind.conninfo = database.server.conninfo(**parameters)
            relay = ending.enter_context(relaying(kind, Path(parameters["host"])))
            name = f"relayed-{relay.directory.name}"
            lines = (f"{name}={value}" for name, value in {**parameters, "host": relay.directory}.items())
            with (tmp_path / "services").open("a") as file:
                file.write("\n".join([f"[{name}]", *lines, ""]))
            return Postgres(name, "test"), relay

        yield made


@pytest.fixture
def two(template: Database, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    """The live database and one restored from its backup, as a run reaches them."""
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "two"))
    with two_of(template, f"test_{next(_numbers)}", tmp_path / "two", plan.database) as it:
        yield it


@pytest.fixture
def target(database: Database, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bare]:
    """A target that comes up in a moment, for runs through the command line."""
    monkeypatch.setenv("BARE_TOKEN", "a-token-of-the-tests")
    root = tmp_path / "bare"
    root.mkdir()
    with bare(database, root) as it:
        yield it


@pytest.fixture
def make(servers: Callable[[int], Server], version: int, plan: Plan, tmp_path: Path) -> Iterator[Make]:
    """What makes a database of a test's own, to which a migration was applied, and its draft."""
    with ExitStack() as ending:

        def made(before: str, migration: str, use: str = "") -> Migrated:
            suffix = f"_taken_{next(_numbers)}"
            return ending.enter_context(migrated(servers(version), plan, tmp_path, suffix, before, migration, use))

        yield made


@pytest.fixture
def behind(target: Bare, database: Database, tmp_path: Path) -> Iterator[Behind]:
    with pgbouncer(database) as bouncer:
        yield Behind(target, bouncer, tmp_path / "services")
