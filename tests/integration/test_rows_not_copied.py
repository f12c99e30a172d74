"""Rows that a migration does not concern are not copied to take it back, and whoever changes them is noticed."""

from dataclasses import replace

import pytest

from runbook_lib.config.plan import Decision
from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes import live
from runbook_lib.postgres.changes.work import Reversal
from runbook_lib.postgres.dump import sha256
from runbook_lib.results import Status, not_passed

from ..support.taking_back import Make, approved, summaries
from .test_take_back import ALL, BEFORE, UP, USE

LARGE = """
CREATE TABLE logs (id bigint PRIMARY KEY, line text NOT NULL);
INSERT INTO logs SELECT n, repeat(md5(n::text), 40) FROM generate_series(1, 8000) n;
CREATE TABLE days (at date NOT NULL, n int) PARTITION BY RANGE (at);
CREATE TABLE days_now PARTITION OF days FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO days VALUES ('2025-11-03', 1);
CREATE MATERIALIZED VIEW lines AS SELECT count(*) AS n FROM logs;
"""
LOGS = "SELECT count(*), sum(hashtext(l::text)) FROM logs l"
SIZES = """SELECT max(pg_database_size(oid)) FILTER (WHERE datname NOT LIKE '%%\\_r1'),
    max(pg_database_size(oid)) FILTER (WHERE datname LIKE '%%\\_r1') FROM pg_database WHERE datname LIKE %s"""


def test_rows_that_the_change_does_not_concern_are_not_copied_and_stay(make: Make) -> None:
    found = make(BEFORE + LARGE, UP, USE)
    before, logs = found.execute(ALL), found.execute(LOGS)
    step = approved(found)

    step.apply()

    with found.database.server.connect() as connection:
        (live, copies) = connection.execute(SIZES, [found.database.name + "%"]).fetchone() or (0, 0)
        assert live - copies > 8_000_000
    assert not_passed(step.verify()) == []
    assert found.execute(LOGS) == logs
    assert found.execute("SELECT count(*) FROM days") == [(1,)]

    assert found.step().undo() == {"differences": []}
    assert (found.execute(ALL), found.execute(LOGS)) == (before, logs)


@pytest.mark.newest
@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("UPDATE logs SET line = 'other' WHERE id = 7", "public.logs: rows that are not the feature's were changed"),
        ("DELETE FROM logs WHERE id = 7", "8000 before, 7999 now"),
        ("INSERT INTO days VALUES ('2025-12-01', 2)", "public.days_now: rows that are not the feature's were changed"),
        ("DROP TABLE logs CASCADE", "missing table public.logs"),
    ],
)
def test_a_change_by_others_of_rows_that_were_not_copied_is_noticed(make: Make, written: str, named: str) -> None:
    found = make(BEFORE + LARGE, UP)
    step = approved(found)
    step.apply()
    with step.context.adapters.postgres.connect() as connection:
        connection.execute("UPDATE runbook.taken_back SET differences = NULL")
    found.execute(written)

    taken, kept = step.verify()

    assert (taken.status, kept.status) == (Status.FAIL, Status.PASS)
    assert named in taken.summary


@pytest.mark.newest
def test_a_table_of_others_that_refers_to_inserted_rows_is_copied(make: Make) -> None:
    kinds = "CREATE TABLE kinds (id int PRIMARY KEY); INSERT INTO kinds VALUES (1);"
    of_others = "CREATE TABLE uses (kind int REFERENCES kinds); INSERT INTO uses VALUES (2);"
    found = make(kinds, "INSERT INTO kinds VALUES (2);", of_others)

    _, looks = found.step().previewed(begun=False)

    assert "rows that the migration inserted are referred to" in summaries(looks)


@pytest.mark.newest
def test_a_draft_from_before_tables_were_chosen_copies_all(make: Make) -> None:
    found = make(BEFORE + LARGE, UP, USE)
    lines = [
        line
        for line in found.made.file.read_text().splitlines()
        if not line.startswith(("tables:", "referred:", "- public"))
    ]
    found.made.file.write_text("\n".join(lines))
    found.made = replace(found.made, sha256=sha256(found.made.file))
    step = approved(found)

    assert "0 tables without their rows" in next(
        each.summary for each in step.previewed(begun=False)[1] if "copies" in each.name
    )


STRONG = """SELECT DISTINCT relation, relname FROM pg_locks JOIN pg_class c ON c.oid = relation
    WHERE pid = pg_backend_pid() AND relkind = 'r' AND relnamespace = 'public'::regnamespace
    AND mode IN ('AccessExclusiveLock', 'ShareRowExclusiveLock')"""


@pytest.mark.newest
def test_all_tables_are_locked_before_any_is_changed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found, apply = make(BEFORE, UP + "ALTER TABLE shops RENAME TO stores;"), live.apply
    step, locked = approved(found), list[dict[int, str]]()

    def watched(reversal: Reversal, connection: Connection) -> None:
        apply(replace(reversal, statements=[]), connection)
        locked.append({row["relation"]: row["relname"] for row in connection.execute(STRONG)})
        apply(replace(reversal, locks=[]), connection)
        locked.append({row["relation"]: row["relname"] for row in connection.execute(STRONG)})

    monkeypatch.setattr(live, "apply", watched)
    step.apply()

    assert set(locked[0].values()) == {"Orders", "stores", "fees"}
    assert locked[1].keys() <= locked[0].keys()


CHOSEN = """
CREATE TABLE logs (id int PRIMARY KEY, line text);
CREATE TABLE apart (id int PRIMARY KEY);
CREATE TABLE kinds (id int PRIMARY KEY);
CREATE TABLE uses (id int PRIMARY KEY, kind int REFERENCES kinds);
CREATE TABLE owners (id int PRIMARY KEY);
CREATE TABLE shops (id int PRIMARY KEY, owner int REFERENCES owners);
CREATE TYPE state AS ENUM ('open');
CREATE DOMAIN of_state AS state;
CREATE TABLE orders (id int PRIMARY KEY, states of_state[]);
CREATE TABLE days (at date, n int) PARTITION BY RANGE (at);
CREATE TABLE today PARTITION OF days DEFAULT;
CREATE TABLE "Old sums" (id int PRIMARY KEY);
CREATE VIEW seen AS SELECT id FROM "Old sums";
"""
CHOOSING = """
CREATE INDEX lines ON logs (line);
COMMENT ON TABLE apart IS 'apart';
INSERT INTO kinds VALUES (1);
ALTER TABLE shops ADD COLUMN fee int;
ALTER TYPE state ADD VALUE 'paid';
ALTER TABLE today ADD CHECK (n > 0);
ALTER TABLE "Old sums" RENAME TO sums;
CREATE TABLE made AS SELECT id FROM seen;
"""


def test_the_tables_are_chosen_whose_rows_count(make: Make) -> None:
    chosen = make(CHOSEN, CHOOSING).made.draft.tables or []

    names = {each.removeprefix("public.") for each in chosen}
    assert names == {"kinds", "uses", "owners", "shops", "orders", "days", "today", '"Old sums"', "sums", "made"}


@pytest.mark.newest
def test_a_table_that_a_decision_reads_is_copied(make: Make) -> None:
    found = make(
        """CREATE TABLE customers (id int PRIMARY KEY, street text); INSERT INTO customers VALUES (1, 'Old Street');
        CREATE TABLE addresses (customer int PRIMARY KEY, street text); INSERT INTO addresses VALUES (1, 'New Street');""",
        "ALTER TABLE customers DROP COLUMN street;",
    )
    follows = {"columns": ["street"], "from": "addresses", "match": "addresses.customer = customers.id"}
    decided = found.plan.model_copy(update={"decide": {"customers": Decision.model_validate(follows)}})
    step = approved(replace(found, plan=decided))

    step.apply()

    assert not_passed(step.verify()) == []
    assert found.execute("SELECT street FROM customers") == [("New Street",)]
