"""What is read from a migration's SQL: what it takes values from, and the time zone by which it converts."""

import pytest

from runbook_lib.postgres.changes.reading import Copied, read


@pytest.mark.parametrize(
    "script",
    [
        "INSERT INTO addresses (customer, street) SELECT id, street FROM customers",
        "INSERT INTO addresses SELECT * FROM customers",
        "UPDATE customers SET prefs = jsonb_build_object('street', street)",
        "CREATE TABLE copies AS SELECT street FROM customers",
        "DO $$ BEGIN EXECUTE 'INSERT INTO addresses SELECT street FROM customers'; END $$",
        "WITH taken AS (SELECT street FROM customers) INSERT INTO addresses SELECT street FROM taken",
        "this is no SQL, but names customers and street",
    ],
)
def test_a_column_that_is_read_is_seen(script: str) -> None:
    assert read([script], {}).reads("customers", "street")


@pytest.mark.parametrize(
    "script",
    [
        "INSERT INTO customers (street) VALUES ('a')",
        "UPDATE customers SET street = 'a' WHERE id = 1",
        "INSERT INTO addresses SELECT id FROM customers",
        "ALTER TABLE customers DROP COLUMN street",
        "INSERT INTO addresses SELECT street FROM others",
    ],
)
def test_a_column_that_is_only_written_or_is_another_tables_is_not(script: str) -> None:
    assert not read([script], {}).reads("customers", "street")


@pytest.mark.parametrize(
    ("script", "bodies"),
    [
        ("SELECT move()", {"move": "INSERT INTO addresses SELECT street FROM customers"}),
        ("CALL outer_one()", {"outer_one": "SELECT inner_one()", "inner_one": "SELECT street FROM customers"}),
        ("INSERT INTO addresses SELECT * FROM all_streets", {"all_streets": "SELECT street FROM customers"}),
        ("UPDATE customers SET id = id", {"fired": "BEGIN NEW.road := NEW.street; RETURN NEW; END"}),
    ],
    ids=["a function", "a function of a function", "a view", "a trigger"],
)
def test_what_functions_views_and_triggers_read_counts(script: str, bodies: dict[str, str]) -> None:
    assert read([script], bodies).reads("customers", "street")
    assert not read([script], bodies).reads("customers", "country")


def test_the_time_zone_of_a_conversion_is_read() -> None:
    script = "ALTER TABLE shifts ALTER COLUMN starts TYPE timestamptz USING starts AT TIME ZONE 'Europe/Berlin'"

    assert read([script], {}).zones == {"starts": "Europe/Berlin"}


def test_a_conversion_by_anything_else_has_none() -> None:
    scripts = [
        "ALTER TABLE a ALTER b TYPE int USING b::int",
        "ALTER TABLE a ALTER b TYPE timestamptz USING c AT TIME ZONE 'UTC'",
    ]

    assert read(scripts, {}).zones == {}


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("INSERT INTO b (x, y) SELECT 1, k FROM a", [Copied("b", "y", "a", "k")]),
        (
            "INSERT INTO b SELECT k, 1 FROM a UNION SELECT 2, c.l FROM c",
            [Copied("b", 0, "a", "k"), Copied("b", 1, "c", "l")],
        ),
        ("INSERT INTO b (x) SELECT o.k FROM a o JOIN c USING (k)", [Copied("b", "x", "a", "k")]),
        ("CREATE TABLE b AS SELECT k AS x FROM s.a", [Copied("b", 0, "a", "k")]),
        ("INSERT INTO b (x) SELECT k FROM a, c", []),
        ("INSERT INTO b (x) SELECT k + 1 FROM a", []),
        ("INSERT INTO b (x) SELECT q.k FROM (SELECT k FROM a) q", [Copied("b", "x", "", "k")]),
        ("INSERT INTO b (x) VALUES (1)", []),
        ("INSERT INTO b DEFAULT VALUES", []),
    ],
)
def test_columns_that_are_copied_as_they_are_are_seen(script: str, found: list[Copied]) -> None:
    assert read([script], {}).copied == found
