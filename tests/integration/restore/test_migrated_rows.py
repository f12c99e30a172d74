"""What a feature's migrations wrote is carried into no restored database; what users wrote into the same rows is."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from runbook_lib.config import plan as plans
from runbook_lib.config.plan import Plan
from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes import draft
from runbook_lib.postgres.changes.draft import Draft
from runbook_lib.postgres.dump import sha256
from runbook_lib.postgres.restore import rerun
from runbook_lib.postgres.restore.diff import Ledger
from runbook_lib.postgres.restore.export import Outcome
from runbook_lib.postgres.restore.migrated import forget
from runbook_lib.postgres.restore.salvage import Salvage
from runbook_lib.rehearsal.postgres import Server
from runbook_lib.results import not_passed
from runbook_lib.run import engine
from runbook_lib.steps import swap_database

from ...support.restoring import ADDED, MINE, SWAP, Restoring

BEFORE = """
CREATE TYPE grade AS ENUM ('low', 'high');
CREATE SCHEMA "Our shop";
CREATE TABLE "Our shop"."Items" (id bigint PRIMARY KEY, name text, grade grade,
    twice text GENERATED ALWAYS AS (name || name) STORED);
CREATE TABLE settings (name text, place int, value text, PRIMARY KEY (name, place));
INSERT INTO "Our shop"."Items" (id, name, grade) SELECT n, ' item ' || n, 'low' FROM generate_series(1, 20) n;
INSERT INTO settings SELECT 'old', n, 'v' || n FROM generate_series(1, 5) n;
"""
UP = """
UPDATE "Our shop"."Items" SET name = btrim(name), grade = 'high' WHERE id <= 10;
INSERT INTO settings VALUES ('seed', 1, 'a'), ('seed', 2, 'b');
DELETE FROM settings WHERE name = 'old' AND place > 3;
ALTER TABLE "Our shop"."Items" ADD COLUMN fee numeric DEFAULT 0;
"""
ITEMS: LiteralString = 'SELECT id, name, grade::text FROM "Our shop"."Items" ORDER BY id'
SETTINGS: LiteralString = "SELECT name, place, value FROM settings ORDER BY 1, 2"
_numbers = itertools.count()


@dataclass
class Three:
    """A restored backup, a copy of it that the migrations changed, and the live database that users wrote to since."""

    restored: Callable[[], Connection]
    after: Callable[[], Connection]
    live: Callable[[], Connection]
    plan: Plan

    def salvaged(self, changing: list[str] | None = None, why: str = "") -> tuple[Ledger, Outcome]:
        rerun.derive(self.after, self.restored, [], "test", changing or [], why)
        salvage = Salvage(self.live, self.restored, self.plan.database, [], "test")
        return salvage.stage(), salvage.carry()

    def rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        with self.restored() as connection:
            return [tuple(row.values()) for row in connection.execute(query)]


Make = Callable[..., Three]


@pytest.fixture
def three(servers: Callable[[int], Server], version: int, plan: Plan) -> Iterator[Make]:
    server = servers(version)
    with ExitStack() as ending:

        def opening(name: str) -> Callable[[], Connection]:
            return lambda: psycopg.connect(server.conninfo(dbname=name), autocommit=True, row_factory=dict_row)

        def dropped(name: str) -> None:
            with server.connect() as superuser:
                superuser.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]

        def made(before: str, up: str, use: str = "", again: str = "") -> Three:
            names = [f"{each}_{next(_numbers)}" for each in ("restored", "migrated", "used")]
            for name, scripts in zip(names, ([before], [before, again or up], [before, up, use]), strict=True):
                with server.connect() as superuser:
                    superuser.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
                ending.callback(dropped, name)
                with opening(name)() as connection:
                    for script in filter(None, scripts):
                        connection.execute(script)  # type: ignore[call-overload]
            restored, after, live = map(opening, names)
            return Three(restored, after, live, plan)

        yield made


def test_rows_of_the_migrations_alone_are_neither_lost_nor_carried_over(three: Make) -> None:
    found = three(BEFORE, UP)
    before = found.rows(ITEMS), found.rows(SETTINGS)

    ledger, outcome = found.salvaged()

    assert not any(ledger.totals.values())
    assert ledger.migrated == {"Our shop.Items": 10, "public.settings": 4}
    assert not outcome.carried
    assert (found.rows(ITEMS), found.rows(SETTINGS)) == before


def test_users_values_are_carried_over_without_the_migrations_part(three: Make) -> None:
    use = """
    UPDATE "Our shop"."Items" SET name = 'renamed' WHERE id = 3;
    UPDATE "Our shop"."Items" SET name = 'other' WHERE id = 15;
    INSERT INTO "Our shop"."Items" (id, name, grade) VALUES (21, 'new', 'high');
    UPDATE settings SET value = 'mine' WHERE name = 'seed' AND place = 2;
    DELETE FROM settings WHERE name = 'old' AND place = 1;
    """
    found = three(BEFORE, UP, use)

    found.salvaged()

    items = {id_: (name, grade) for id_, name, grade in found.rows(ITEMS)}
    assert items == {
        **{n: (f" item {n}", "low") for n in range(1, 21)},
        3: ("renamed", "low"),
        15: ("other", "low"),
        21: ("new", "high"),
    }
    assert found.rows(SETTINGS) == [("old", n, f"v{n}") for n in range(2, 6)] + [("seed", 2, "mine")]


def test_a_time_that_differs_at_each_run_goes_back_with_its_row(three: Make) -> None:
    before = (
        "CREATE TABLE t (id int PRIMARY KEY, v int, at timestamptz); INSERT INTO t SELECT n, n FROM generate_series(1, 4) n"
    )
    up, again = (f"UPDATE t SET v = -v, at = '2025-01-0{day}'" for day in (1, 2))
    found = three(before, up, "UPDATE t SET v = 7 WHERE id = 2", again)

    found.salvaged(["public.t.at"])

    assert found.rows("SELECT id, v, at IS NOT NULL FROM t ORDER BY id") == [
        (1, 1, False), (2, 7, True), (3, 3, False), (4, 4, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changing", "why", "table"),
    [
        (["public.settings.name"], "", "public.settings"),
        ([], "the migrations do not run on the backup: no such table", "what the migrations write"),
    ],
    ids=["keys differ at each run", "they do not run"],
)
def test_where_nobody_knows_what_they_write_the_loss_is_unknown(
    three: Make, changing: list[str], why: str, table: str
) -> None:
    ledger, _ = three(BEFORE, UP).salvaged(changing, why)

    assert list(ledger.unknown) == [table]


def test_nothing_of_it_is_left_in_the_end(three: Make) -> None:
    found = three(BEFORE, UP)
    found.salvaged()

    with found.restored() as connection:
        forget(connection, "test")

    left: LiteralString = "SELECT tablename FROM pg_tables WHERE schemaname = 'runbook' AND tablename ~ 'migrated'"
    assert found.rows(left) == []


@pytest.mark.newest
def test_the_steps_carry_over_nothing_of_the_draft(restoring: Restoring) -> None:
    folder = restoring.backups
    (folder / "up.sql").write_text("UPDATE messages SET content = 'moved ' || id WHERE id IN (3, 4)")
    changes = folder / "SHOP-1.changes.yaml"
    draft.pack(draft.states_of(changes), restoring.backup, restoring.backup, [folder / "up.sql"])
    states = sha256(draft.states_of(changes))
    made = Draft(
        feature="SHOP-1", made="now", server=18, migrations={}, states=states, stopped="",
        changes=[], undecided=[], notes=[], renamed=[], changing=[],
    )  # fmt: skip
    named = plans.Draft(changes=changes.name, sha256=draft.write(made, changes))
    restoring.run.context.plan = restoring.run.context.plan.model_copy(update={"draft_": named, "migration": None})
    restoring.run.choose("SALVAGE", "carry", "tester")
    before: LiteralString = "SELECT content FROM messages WHERE id = 4"
    was = restoring.ask(before)
    restoring.change((folder / "up.sql").read_text(), "UPDATE messages SET content = 'mine' WHERE id = 3", ADDED)  # type: ignore[arg-type]

    restoring.restore_staging()
    restoring.approve()
    shown = restoring.run.steps[SWAP].preview()
    engine.apply(restoring.run, SWAP)

    assert any("leave 2 rows of public.messages" in line for line in shown.would)
    assert [row[1] for row in restoring.ask(MINE)] == ["mine", "written since"]
    assert restoring.ask(before) == was
    assert not_passed(restoring.run.steps[SWAP].verify()) == []
    restoring.run.steps[SWAP].purge(swap_database.OLD)
    assert restoring.ask("SELECT tablename FROM pg_tables WHERE tablename ~ '^migrated_'") == []


ROWS = st.dictionaries(st.integers(1, 6), st.integers(0, 2), max_size=6)


@pytest.mark.newest
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=ROWS, after=ROWS, live=ROWS)
def test_each_row_is_merged_as_by_hand(
    three: Make, before: dict[int, int], after: dict[int, int], live: dict[int, int]
) -> None:
    def script(rows: dict[int, int]) -> str:
        values = ", ".join(f"({id_}, {value})" for id_, value in rows.items())
        return "DELETE FROM t;" + (f"INSERT INTO t VALUES {values}" if values else "")

    found = three(f"CREATE TABLE t (id int PRIMARY KEY, v int); {script(before)}", script(after), script(live))

    found.salvaged()

    def merged(id_: int) -> int | None:
        was, made, now = before.get(id_), after.get(id_), live.get(id_)
        return was if now == made else now

    wanted = {id_: value for id_ in range(1, 7) if (value := merged(id_)) is not None}
    assert dict(found.rows("SELECT id, v FROM t")) == wanted  # type: ignore[arg-type]
