"""Backfills of plain columns, taken back through the command line and papermill, each by a step of its own."""

import re
from typing import Any

import pytest

from ..support.bare import SERVICES, Bare, runbook, words

ROWS = 'SELECT to_jsonb(o) FROM shop."Orders" o ORDER BY id'
LISTS = "SELECT to_jsonb(m) FROM messages m ORDER BY id"
MADE = """CREATE SCHEMA shop;
CREATE TABLE shop."Orders" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), number int NOT NULL, state text, price int,
    "Fee" numeric(10, 2), tax int NOT NULL DEFAULT 0);
CREATE INDEX orders_fee ON shop."Orders" ("Fee");
INSERT INTO shop."Orders" (number, state, price, "Fee")
SELECT n, CASE WHEN n % 4 = 0 THEN 'shut' ELSE 'open' END, n, CASE WHEN n % 10 = 0 THEN n END FROM generate_series(1, 300) n;
"""
WRITTEN = """
UPDATE shop."Orders" SET "Fee" = round(price * 0.02, 2) WHERE state = 'open';
UPDATE shop."Orders" SET tax = 19;
UPDATE shop."Orders" SET "Fee" = -1 WHERE number IN (7, 9);
INSERT INTO shop."Orders" (number, state, price, "Fee", tax) VALUES (301, 'open', 100, 2, 19);
"""
FEE: dict[str, Any] = {
    "column": "shop.Orders.Fee",
    "written": {"sql": "round(price * 0.02, 2)"},
    "where": "state = 'open'",
    "cleared": "from_backup",
}
TAX: dict[str, Any] = {"column": "shop.Orders.tax", "written": 19, "cleared": 0}
CLEARED = """SELECT number, "Fee"::text, tax FROM shop."Orders" ORDER BY number"""


def as_before(number: int) -> tuple[int, str | None, int]:
    """The values expected in a row: its backup's, except where a user edited it or it came since."""
    fees = {7: "-1.00", 9: "-1.00", 301: "2.00"}
    return number, fees.get(number, f"{number}.00" if number % 10 == 0 else None), 0


@pytest.fixture
def orders(target: Bare) -> Bare:
    """Three backfills: of the JSON list, and of two plain columns of a table in another schema."""
    target.ask(MADE)
    target.as_superuser("GRANT USAGE ON SCHEMA shop TO PUBLIC", "GRANT ALL ON ALL TABLES IN SCHEMA shop TO PUBLIC")
    target.backed_up()
    target.ask(WRITTEN)
    target.plan["backfills"] = [*target.plan["backfills"], dict(FEE), dict(TAX)]
    of_lists = target.plan["steps"]["clear-backfill"] | {"backfill": target.plan["backfills"][0]["column"]}
    target.plan["steps"]["clear-backfill"] = of_lists
    for name, each in (("fees", FEE), ("taxes", TAX)):
        target.plan["steps"][name] = {"kind": "clear_backfill", "options": ["A"], "backfill": each["column"], "title": name}
    target.plan["types"]["full"]["checks"] = ["only-intended-rows"]
    target.steps("stop-services", "back-up", "clear-backfill", "fees", "taxes")
    return target


@pytest.mark.parametrize(
    "strategy", ["swap", *(pytest.param(each, marks=pytest.mark.newest) for each in ("auto", "batched", "keyed"))]
)
def test_several_backfills_are_taken_back_and_undone_each_by_its_step(orders: Bare, strategy: str) -> None:
    orders.plan["backfills"][0]["touch_column"] = None
    rows, lists = orders.ask(ROWS), orders.ask(LISTS)

    planned = orders.planned(choose=f"STRATEGY={strategy}")
    ended = orders.executed()

    assert (planned.exit_code, ended.exit_code, orders.status()) == (0, 0, "verified"), planned.text + ended.text
    assert "2 rows hold another value than the backfill wrote, by users since: kept as they are" in words(planned.text)
    assert "1 rows came since the backup, so they keep what they hold" in words(planned.text)
    assert orders.ask(CLEARED) == [as_before(number) for number in range(1, 302)]
    assert orders.ask(LISTS) != lists
    orders.ask('UPDATE shop."Orders" SET "Fee" = 5 WHERE number = 11')

    for step in ("taxes", "fees", "clear-backfill"):
        digest = re.findall(r"--approve (\w{16})", runbook("undo", orders.run, "--step", step).text)[-1]
        undone = runbook("undo", orders.run, "--step", step, "--approve", digest)
        assert undone.exit_code == 0, undone.text
        assert f"conflicts: {1 if step == 'fees' else 0}" in words(undone.text)

    assert orders.ask(LISTS) == lists
    now = orders.ask(ROWS)
    assert [a for a, b in zip(now, rows, strict=True) if a != b] == [row for row in now if row[0]["number"] == 11]
    assert orders.ask("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE '%capture%'") == []


@pytest.mark.newest
@pytest.mark.parametrize(
    ("statement", "keys", "said"),
    [
        ("", {"column": "shop.Orders.Free"}, "shop.Orders.Free cannot be removed: there is no such column"),
        ("", {"column": "shop.orders.Fee"}, "shop.orders"),
        ("", {"where": "stat = 'open'"}, "Orders has no column stat"),
        ("", {"where": "state = 'open' AND"}, "is not an expression on the columns of one row"),
        ("", {"where": "state IN (SELECT 'open')"}, "it contains a query"),
        ("", {"written": {"sql": "random()"}}, "calls random, which does not give the same each time"),
        ("", {"where": '"Fee" > 0'}, "names Fee itself, which changes"),
        ("", {"written": "much"}, "the server refuses the plan's values or SQL"),
        ("", {"touch_column": "at"}, "Orders has no column at"),
        ('ALTER TABLE shop."Orders" DROP CONSTRAINT "Orders_pkey"', {}, "the table has no key of a single column"),
        (
            'ALTER TABLE shop."Orders" DROP CONSTRAINT "Orders_pkey", ADD PRIMARY KEY (id, number)',
            {},
            "its key is (id, number); keys of several columns are not supported here",
        ),
        (
            'UPDATE shop."Orders" SET "Fee" = 3 WHERE "Fee" IS NULL; ALTER TABLE shop."Orders" ALTER "Fee" SET NOT NULL',
            {},
            "NOT NULL of Fee forbids the earlier value of",
        ),
        (
            'ALTER TABLE shop."Orders" ADD CONSTRAINT cheap CHECK ("Fee" < 100) NOT VALID',
            {},
            "the constraint cheap forbids the earlier value of 10 rows",
        ),
        (
            'CREATE UNIQUE INDEX one ON shop."Orders" ("Fee") WHERE number BETWEEN 20 AND 30',
            {"cleared": 1},
            "the unique index shop.one forbids the earlier value of 1 rows",
        ),
        (
            "CREATE TABLE shop.fees (fee numeric PRIMARY KEY); GRANT ALL ON shop.fees TO PUBLIC; "
            'INSERT INTO shop.fees SELECT DISTINCT "Fee" FROM shop."Orders" WHERE "Fee" IS NOT NULL; '
            'ALTER TABLE shop."Orders" ADD CONSTRAINT known FOREIGN KEY ("Fee") REFERENCES shop.fees',
            {"cleared": 77},
            "the foreign key known forbids the earlier value of",
        ),
        (
            'ALTER TABLE shop."Orders" DROP "Fee", ADD "Fee" numeric GENERATED ALWAYS AS (price * 0.02) STORED',
            {},
            "Fee is computed from other columns",
        ),
    ],
)
def test_what_cannot_go_back_is_named_before_anything_is_stopped(
    orders: Bare, statement: str, keys: dict[str, Any], said: str
) -> None:
    for part in filter(None, statement.split("; ")):
        orders.ask(part)
    orders.plan["backfills"][1] |= keys
    orders.plan["steps"]["fees"]["backfill"] = orders.plan["backfills"][1]["column"]

    ended = orders.planned()

    assert (ended.exit_code in (2, 3), orders.running()) == (True, set(SERVICES)), ended.text
    assert said in words(ended.text)


@pytest.mark.slow
@pytest.mark.newest
@pytest.mark.parametrize(("strategy", "statement"), [("swap", 40), ("batched", 40), ("keyed", 15)])
def test_a_killed_step_is_resumed_by_the_same_command(orders: Bare, strategy: str, statement: int) -> None:
    orders.plan["backfills"][0]["touch_column"] = None
    orders.steps("stop-services", "back-up", "fees", "clear-backfill", "taxes")
    rows = orders.ask(ROWS)
    assert orders.planned(choose=f"STRATEGY={strategy}").exit_code == 0
    orders.dying_in("fees", statement)
    orders.executed()
    orders.dying("")

    ended = orders.executed()

    assert (ended.exit_code, orders.status()) == (0, "verified"), ended.text
    assert orders.ask(CLEARED) == [as_before(number) for number in range(1, 302)]
    for step in ("taxes", "clear-backfill", "fees"):
        digest = re.findall(r"--approve (\w{16})", runbook("undo", orders.run, "--step", step).text)[-1]
        assert runbook("undo", orders.run, "--step", step, "--approve", digest).exit_code == 0
    assert orders.ask(ROWS) == rows


@pytest.mark.newest
@pytest.mark.parametrize("strategy", ["swap", "batched"])
def test_what_is_purged_is_gone_and_leaves_nothing_to_clear(orders: Bare, strategy: str) -> None:
    orders.plan["backfills"][0]["touch_column"] = None
    assert orders.planned(choose=f"STRATEGY={strategy}").exit_code == 0
    assert orders.executed().exit_code == 0
    after = orders.ask(ROWS)
    purge = re.findall(r"--approve (\w{16})", runbook("purge", orders.run).text)[-1]

    assert runbook("purge", orders.run, "--approve", purge).exit_code == 0

    assert "the old values were purged" in words(runbook("undo", orders.run, "--step", "taxes").text)
    assert [{k: v for k, v in row.items() if "__" not in k} for (row,) in orders.ask(ROWS)] == [
        {k: v for k, v in row.items() if "__" not in k} for (row,) in after
    ]
    kept = "SELECT attname, attrelid::regclass::text FROM pg_attribute WHERE NOT attisdropped AND attname ~ '__old_'"
    assert orders.ask(kept) == []
    fees = orders.opened().steps["fees"]
    assert fees.probe().effect == "done"
