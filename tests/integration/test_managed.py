"""On a server that somebody else manages, each option works to its proof, or is refused by name beforehand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg.rows import dict_row

from runbook_lib.checks.prerequisites import looked
from runbook_lib.postgres.abilities import ABILITIES, lost
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.rehearsal import stack_file
from runbook_lib.rehearsal.database import Database, create_empty_database, fill
from runbook_lib.rehearsal.postgres import Server
from runbook_lib.results import not_passed
from runbook_lib.run import Run, engine

from ..support import quick_site
from ..support.bare import Bare, Ended, words
from ..support.managed import BARE, MASTER, as_managed
from ..support.taking_back import Make, approved

ROWS = 200
ALL = "SELECT to_jsonb(m) - 'updated_at' FROM messages m ORDER BY id"
OPTIONS = {
    "swap": ("A", ("clear-backfill",), "STRATEGY=swap"),
    "batched": ("A", ("clear-backfill",), "STRATEGY=batched"),
    "keyed": ("A", ("fence", "clear-backfill", "let-in"), "STRATEGY=keyed"),
    "quarantine": ("B", ("remove-columns",), "REMOVAL=quarantine"),
    "drop": ("B", ("remove-columns",), "REMOVAL=drop"),
    "restore": ("C", ("restore-staging", "swap-database"), ""),
    "part": ("R", ("restore-media-url",), ""),
}
OWN: tuple[LiteralString, ...] = ("ALTER DATABASE {db} OWNER TO {us}", "GRANT CREATE ON SCHEMA public TO {app}")
ELSEWHERE = "the server's disk cannot be seen from here"  # what a server on another machine says


@pytest.fixture(scope="module")
def template(servers: Callable[[int], Server], version: int) -> Iterator[Database]:
    """The sample database of two roles of its own."""
    made = create_empty_database(servers(version), "_managed")
    fill(stack_file.named("sample"), made, ROWS)
    yield made
    made.drop_all()


@pytest.fixture
def managed(target: Bare) -> Iterator[Bare]:
    """The target, whose runbook role is the master role of a managed server."""
    as_managed(target.database, MASTER)
    yield target
    as_managed(target.database, ("GRANT pg_monitor, pg_signal_backend TO {us}", "GRANT {app} TO {us}"))


def planned(target: Bare, what: str) -> Ended:
    option, steps, choice = OPTIONS[what]
    target.plan["backfills"][0]["touch_column"] = None
    target.plan["steps"] |= {"fence": {"kind": "fence"}, "let-in": {"kind": "let_in"}}
    target.steps("stop-services", "back-up", *steps)
    target.backed_up()
    if what == "part":
        target.ask("UPDATE messages SET media_url = NULL WHERE id % 3 = 0")
    return target.planned(option, choice)


def executed(target: Bare) -> Run:
    run = target.opened()
    run.approve(target.digest, "tester")
    for name in run.steps:
        if name == "swap-database":  # the loss is counted by now
            run.approve(run.previews()[0], "tester")
        assert not_passed(engine.apply(run, name).results) == []
    return run


@pytest.mark.parametrize(
    ("what", "owner"),
    [
        *(pytest.param(what, (), id=what) for what in OPTIONS),
        pytest.param("keyed", OWN, id="keyed, the database is ours", marks=pytest.mark.newest),
        pytest.param("restore", OWN, id="restore, the database is ours", marks=pytest.mark.newest),
    ],
)
def test_each_option_works_to_its_proof_and_back(managed: Bare, what: str, owner: tuple[LiteralString, ...]) -> None:
    as_managed(managed.database, owner)
    said = planned(managed, what)
    assert said.exit_code == 0, said.text
    before = managed.ask(ALL)

    run = executed(managed)
    for name in reversed([*run.steps][1:]):
        engine.undo(run, name)

    assert managed.ask(ALL) == before
    assert [item for item in run.state.pending if item != "restored-database"] == []


@pytest.mark.parametrize("what", OPTIONS)
def test_without_more_than_that_each_is_refused_by_name(managed: Bare, what: str) -> None:
    as_managed(managed.database, BARE)

    said = words(planned(managed, what).text)

    assert "it may not see other roles' connections" in said
    assert ("it may not end sessions (pg_signal_backend)" in said, ELSEWHERE in said) == ((what == "restore",) * 2)
    assert "started" not in {event.kind for event in managed.opened().journal.events()}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("restore", "it may not become the database's owner (GRANT … WITH SET TRUE)"),
        ("swap", "must be able to SET ROLE"),
    ],
)
def test_a_membership_that_does_not_let_us_become_the_owner(managed: Bare, version: int, what: str, said: str) -> None:
    if version < 16:
        assert planned(managed, what).exit_code == 0  # every membership lets a role become the owner
        return
    as_managed(managed.database, ("GRANT {app} TO {us} WITH INHERIT TRUE, SET FALSE",))
    try:
        refused = planned(managed, what)
    finally:
        as_managed(managed.database, ("GRANT {app} TO {us} WITH INHERIT TRUE, SET TRUE",))

    assert refused.exit_code in (3, 4)
    assert said in words(refused.text)
    assert "started" not in {event.kind for event in managed.opened().journal.events()}


def test_without_any_membership_what_it_may_not_do_is_named(managed: Bare) -> None:
    as_managed(managed.database, ("REVOKE {app} FROM {us}",))

    said = words(planned(managed, "quarantine").text)

    assert "Our role may do what the rollback does (rights): FAIL, it may not read and update the table" in said


@pytest.mark.newest
@pytest.mark.parametrize("what", ["restore", "quarantine"])
def test_an_owner_who_may_not_create_in_its_schema_any_more(managed: Bare, what: str) -> None:
    as_managed(managed.database, OWN[:1])

    said = planned(managed, what)

    assert said.exit_code == (3 if what == "restore" else 0), said.text
    named = f"{managed.database.application.name} in the schema public may not create"
    assert (named in words(said.text)) == (what == "restore")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER DATABASE {db} SET default_transaction_read_only = on", "transactions are read-only here"),
        ("ALTER ROLE {us} CONNECTION LIMIT 5", "our role may have 5 connections, and a rollback needs 8"),
    ],
)
def test_a_server_that_lets_us_change_nothing_is_named(managed: Bare, statement: LiteralString, said: str) -> None:
    as_managed(managed.database, (statement,))

    refused = planned(managed, "keyed")

    back: tuple[LiteralString, ...] = ("SET default_transaction_read_only = off", "ALTER DATABASE {db} RESET ALL")
    as_managed(managed.database, (*back, "ALTER ROLE {us} CONNECTION LIMIT -1"))
    assert (refused.exit_code, said in words(refused.text)) == (3, True), refused.text


@pytest.mark.slow
@pytest.mark.newest
@pytest.mark.parametrize("rights", [MASTER, (*BARE, "REVOKE {app} FROM {us}")], ids=["master", "bare"])
def test_a_quick_rollback_works_with_such_a_role(
    target: Bare, postgres: Postgres, rights: tuple[LiteralString, ...], tmp_path: Path
) -> None:
    as_managed(target.database, rights)
    site = quick_site.make(tmp_path / "site", postgres.service)
    try:
        run = site.plan()
        code, said = run.run()
    finally:
        as_managed(target.database, ("GRANT pg_monitor, pg_signal_backend TO {us}", "GRANT {app} TO {us}"))

    assert (code, run.state.outcome and run.state.outcome["status"]) == (0, "verified"), said


def test_each_lost_ability_is_shown_with_its_substitute(managed: Bare) -> None:
    said = words(planned(managed, "quarantine").text)
    shown = looked(managed.opened().context, "server-role")

    assert shown.status == "PASS"
    assert "make event triggers: only superusers may; copies that are only read are made without them" in shown.summary
    assert "end sessions of roles" not in shown.summary
    assert "The missing rights of our role on this server are known" in said


def test_a_superuser_loses_nothing(database: Database) -> None:
    with database.server.connect(dbname=database.name) as superuser:
        superuser.row_factory = dict_row  # type: ignore[assignment]
        assert lost(superuser, database.application.name) == []


def test_every_ability_is_checked(connection: Connection) -> None:
    as_role = {each.what for each in lost(connection, "nobody")}

    assert as_role <= {each.what for each in ABILITIES.values()}
    assert ABILITIES["superuser"].what in as_role


def test_a_draft_is_taken_back_and_back_again(make: Make) -> None:
    found = make("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)", "ALTER TABLE t ADD COLUMN u int DEFAULT 7")
    as_managed(found.database, MASTER)

    approved(found).apply()

    assert not_passed(found.step().verify()) == []
    assert found.execute("SELECT * FROM t") == [(1,)]
    assert found.step().undo() == {"differences": []}
    assert found.execute("SELECT * FROM t") == [(1, 7)]
