"""What a plan says of backfills: kinds, names, earlier spellings, and the steps that take each back."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.config.plan import Backfill, Plan, ScalarBackfill
from runbook_lib.documents import load_plan
from runbook_lib.errors import ParametersError

from ..support.places import PLAN

SMALL: dict[str, Any] = {
    "feature": "SHOP-41",
    "title": "Fees",
    "extends": "standard",
    "repositories": {"billing": {}},
    "services": ["billing"],
}
FEE = {"column": "orders.fee", "written": 0, "cleared": None}
TAX = {"column": "shop.Orders.tax", "written": {"column": "price"}, "cleared": "from_backup", "where": "state = 'open'"}
STAYS = {"code": "before", "schema": "feature", "data": "before"}
TOGETHER = [{"code": each, "schema": each, "data": each} for each in ("before", "feature")]


def read(folder: Path, **keys: Any) -> Plan:
    (folder / "plan.yaml").write_text(yaml.safe_dump({**SMALL, **keys}))
    return load_plan(folder / "plan.yaml")


def steps(plan: Plan, option: str = "A") -> dict[str, Any]:
    names = plan.steps_of("full", option)
    return {name: getattr(plan.steps[name], "backfill", None) for name in names if plan.steps[name].kind == "clear_backfill"}


def test_an_entry_with_a_marker_is_a_list_and_one_without_is_scalar(tmp_path: Path) -> None:
    listed = yaml.safe_load(PLAN.read_text())["backfills"][0]

    plan = read(tmp_path, backfills=[listed, FEE, TAX])

    assert [type(each) for each in plan.backfills] == [Backfill, ScalarBackfill, ScalarBackfill]
    assert [(each.place.schema_, each.place.table, each.name) for each in plan.backfills][1:] == [
        ("public", "orders", "fee"),
        ("shop", "Orders", "tax"),
    ]


def test_a_name_that_holds_a_dot_is_quoted(tmp_path: Path) -> None:
    plan = read(tmp_path, backfills=[{**FEE, "column": 'shop."the ""orders"".old"."a.b"'}])

    place = plan.backfills[0].place
    assert (place.schema_, place.table, place.column) == ("shop", 'the "orders".old', "a.b")


def test_a_backfill_under_database_is_still_read_with_its_old_keys(tmp_path: Path) -> None:
    data = yaml.safe_load(PLAN.read_text())
    (entry,) = data.pop("backfills")
    old = {**entry, "column": "attachments", "touch": entry["touch_column"], "cleared": "dump"}
    data["database"]["backfill"] = {key: value for key, value in old.items() if key != "touch_column"}

    plan = read(tmp_path, **data)
    today = read(tmp_path, **{**yaml.safe_load(PLAN.read_text()), "backfills": [{**entry, "cleared": "from_backup"}]})

    assert [(each.place, each.touch_column) for each in plan.backfills] == [(today.backfills[0].place, "updated_at")]
    assert plan.database.backfill.cleared == today.database.backfill.cleared == "from_backup"
    assert (plan.steps, plan.checks, plan.parts) == (today.steps, today.checks, today.parts)


def test_one_backfill_has_one_step_and_each_of_several_its_own(tmp_path: Path) -> None:
    assert steps(read(tmp_path, backfills=[FEE])) == {"clear-backfill": None}
    assert steps(read(tmp_path, backfills=[FEE, TAX])) == {
        "clear-orders-fee": "orders.fee",
        "clear-shop-orders-tax": "shop.Orders.tax",
    }
    assert "A" not in read(tmp_path).types["full"].options


def test_a_column_that_option_b_does_not_remove_is_cleared_in_it_too(tmp_path: Path) -> None:
    data = yaml.safe_load(PLAN.read_text())
    data["backfills"].append(FEE)

    plan = read(tmp_path, **data)

    assert steps(plan, "A") == {
        "clear-messages-attachments": "messages.attachments",
        "clear-orders-fee": "orders.fee",
    }
    assert steps(plan, "B") == {"clear-orders-fee": "orders.fee"}
    assert steps(plan, "C") == {}


def test_where_the_old_code_does_not_run_on_the_schema_it_goes_with_that(tmp_path: Path) -> None:
    draft = {"changes": "SHOP-41.changes.yaml", "sha256": "0" * 64}

    alone = read(tmp_path, backfills=[FEE], draft=draft)
    both = read(tmp_path, backfills=[FEE], draft=draft, compatibility=[*TOGETHER, STAYS])

    assert (list(alone.types["full"].options), steps(alone, "D")) == (["D"], {"clear-backfill": None})
    assert (list(both.types["full"].options), steps(both, "A")) == (["A", "D"], {"clear-backfill": None})


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"backfills": [{**FEE, "column": "fee"}]}, "names 'fee' without its table"),
        ({"backfills": [{**FEE, "column": "a.b.c.d"}]}, "it must be table.column or schema.table.column"),
        ({"backfills": [FEE, FEE]}, "names 'orders.fee' twice"),
        ({"backfills": [{**FEE, "written": None}]}, "cleared and written are the same"),
        ({"backfills": [{"column": "orders.fee", "written": 0}]}, "backfills.0.scalar.cleared: missing"),
        ({"backfills": [{**FEE, "marker": {"a": 1}}]}, "backfills.0.json_list.written: it must hold keys and values"),
        ({"backfills": [FEE, TAX], "without": ["clear-orders-fee"]}, "no step takes the backfill of orders.fee back"),
        (
            {"backfills": [FEE, TAX], "steps": {"more": {"kind": "clear_backfill"}}},
            "steps.more must say which `backfill` it takes back: orders.fee, shop.Orders.tax",
        ),
        ({"backfills": [FEE], "steps": {"more": {"kind": "clear_backfill", "backfill": "orders.fees"}}}, "'orders.fees'"),
    ],
)
def test_a_fault_is_reported_when_the_plan_is_read(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ParametersError) as caught:
        read(tmp_path, **keys)

    assert said in caught.value.what
    assert caught.value.state == "Nothing was touched."
