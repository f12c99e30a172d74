"""What keeps a PgBouncer from having its clients wait is known beforehand, and how the target names its console."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from runbook_lib.postgres import pooler as console
from runbook_lib.rehearsal.database import Database
from runbook_lib.run import engine

from ..support.bare import Bare, words
from ..support.behind import Behind, last
from ..support.pgbouncer import ADMIN, STATS, pgbouncer, program

pytestmark = [
    pytest.mark.newest,
    pytest.mark.skipif(program() is None, reason="PgBouncer is not installed; `.ci/setup test` installs it"),
]


def as_stats(behind: Behind, _: pytest.MonkeyPatch) -> None:
    behind.name(STATS)


def stopped(behind: Behind, _: pytest.MonkeyPatch) -> None:
    behind.name()
    behind.bouncer.stop()


def of_another_name(behind: Behind, _: pytest.MonkeyPatch) -> None:
    behind.name(databases=["shop"])


def paused(behind: Behind, _: pytest.MonkeyPatch) -> None:
    behind.name()
    behind.bouncer.ask(f"PAUSE {behind.target.database.name}")


def all_paused(behind: Behind, _: pytest.MonkeyPatch) -> None:
    behind.name()
    behind.bouncer.ask("PAUSE")


def by_sessions(behind: Behind, _: pytest.MonkeyPatch) -> None:
    behind.name()
    behind.bouncer.ask("SET pool_mode = 'session'")


def impatient(behind: Behind, _: pytest.MonkeyPatch) -> None:
    behind.name()
    behind.bouncer.ask("SET query_wait_timeout = 6")


def too_old(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    behind.name()
    monkeypatch.setattr(console, "RECONNECTS", (99,))


@pytest.mark.parametrize(
    ("spoil", "exit_code", "said"),
    [
        pytest.param(as_stats, 3, "its user is not in admin_users", id="a user who may only look"),
        pytest.param(stopped, 4, "The admin console of PgBouncer cannot be reached", id="unreachable"),
        pytest.param(of_another_name, 3, "has no database shop", id="no such database"),
        pytest.param(paused, 3, "it is paused, but not by this run", id="paused by somebody else"),
        pytest.param(all_paused, 3, "all of it is paused or suspended", id="all of it is paused"),
        pytest.param(by_sessions, 3, "its pool mode is session", id="sessions are pooled"),
        pytest.param(impatient, 3, "its clients get an error after 6 s", id="clients do not wait for long"),
        pytest.param(too_old, 3, "has no RECONNECT", id="an old version"),
    ],
)
def test_what_could_not_be_paused_is_known_beforehand(
    behind: Behind, monkeypatch: pytest.MonkeyPatch, spoil: Callable[..., None], exit_code: int, said: str
) -> None:
    spoil(behind, monkeypatch)

    planned = behind.planned("quarantine")

    assert planned.exit_code == exit_code, planned.text
    assert said in words(planned.text)
    assert not behind.journaled("started")


@pytest.mark.parametrize(
    ("entry", "exit_code", "said"),
    [
        pytest.param("host=/nowhere port=5432 dbname={name}", 4, "cannot be reached from here", id="not to be told"),
        pytest.param("host={host} port={port} dbname=postgres", 3, "leads to the database postgres", id="another database"),
    ],
)
def test_a_pooler_of_another_database_is_known_beforehand(
    target: Bare, database: Database, tmp_path: Path, entry: str, exit_code: int, said: str
) -> None:
    parameters = {**database.server.parameters, "name": database.name}
    with pgbouncer(database, shop=entry.format(**parameters)) as bouncer:
        behind = Behind(target, bouncer, tmp_path / "services")
        behind.name(databases=["shop"])

        planned = behind.planned("quarantine")

    assert planned.exit_code == exit_code, planned.text
    assert said in words(planned.text)


def test_a_database_under_another_name_is_told_by_its_sessions(target: Bare, database: Database, tmp_path: Path) -> None:
    server = database.server.parameters
    entry = f"host={server['host']}/ port={server['port']} dbname={database.name}"
    with pgbouncer(database, shop=entry) as bouncer:
        behind = Behind(target, bouncer, tmp_path / "services")
        behind.name(databases=["shop"])
        with psycopg.connect(bouncer.conninfo(dbname="shop")) as client:
            client.execute("SELECT 1")

            assert behind.planned("quarantine").exit_code == 0


def test_another_name_of_the_database_in_use_is_known_beforehand(target: Bare, database: Database, tmp_path: Path) -> None:
    server = database.server.parameters
    entry = f"host={server['host']}/ port={server['port']} dbname={database.name}"
    with pgbouncer(database, shop=entry) as bouncer:
        behind = Behind(target, bouncer, tmp_path / "services")
        behind.name()
        unused = behind.planned("quarantine")
        with psycopg.connect(bouncer.conninfo(dbname="shop"), autocommit=True) as client:
            client.execute("SELECT 1")
            used = behind.planned("quarantine")

    assert (unused.exit_code, used.exit_code) == (0, 3), unused.text
    assert "shop of console: it leads to the same database and has no client now" in words(unused.text)
    assert "shop of console: its 1 clients use the same database and would not wait" in words(used.text)


def test_the_preview_of_a_fence_says_that_it_is_not_paused_for_all_of_it(behind: Behind) -> None:
    behind.name()

    said = words(behind.planned("fence").text)

    assert "clients of PgBouncer get an error while the fence is up" in said
    assert "it is paused only until the existing sessions have ended" in said


def test_a_console_by_host_and_user_has_its_password_by_reference(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSOLE_PASSWORD", behind.bouncer.passwords[ADMIN])
    pieces = {"host": str(behind.bouncer.directory), "user": ADMIN, "password": {"env": "CONSOLE_PASSWORD"}}
    behind.target.target["pooler"] = {**pieces, "databases": [behind.target.database.name]}
    run = behind.begun("quarantine")

    engine.apply(run, last(run))

    named = {data["poolers"] for data in behind.journaled("poolers-resumed")}  # several where a busy server had it try again
    assert named == {f"PgBouncer {behind.bouncer.directory}:6432 ({behind.target.database.name})"}
    assert behind.bouncer.passwords[ADMIN] not in "".join(map(repr, run.journal.events()))
