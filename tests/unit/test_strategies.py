"""Which way of clearing a backfill suits a table."""

from dataclasses import replace

import pytest

from runbook_lib.steps.backfill_step import Circumstances, choose

MANY = Circumstances(rows=1000, affected=333, kept=50, touches=False, hanging=(), stopped=True)


@pytest.mark.parametrize(
    ("found", "strategy", "because"),
    [
        pytest.param(MANY, "swap", "33% of the rows", id="many rows, few kept, stopped"),
        pytest.param(replace(MANY, affected=20), "keyed", "few", id="two in a hundred"),
        pytest.param(replace(MANY, affected=21), "swap", "2%", id="a little more"),
        pytest.param(replace(MANY, touches=True), "batched", "time of change", id="updated_at is touched"),
        pytest.param(replace(MANY, hanging=("view v uses it",)), "batched", "view v", id="a view hangs on the column"),
        pytest.param(replace(MANY, stopped=False), "batched", "live", id="the application is live"),
        pytest.param(replace(MANY, kept=301), "batched", "30%", id="many keep a value of their own"),
        pytest.param(replace(MANY, kept=300), "swap", "30.0%", id="just few enough"),
        pytest.param(Circumstances(0, 0, 0, False, (), True), "keyed", "few", id="an empty table"),
    ],
)
def test_the_choice_and_its_reason(found: Circumstances, strategy: str, because: str) -> None:
    chosen = choose(found)

    assert chosen.strategy == strategy
    assert because in chosen.because


def test_the_engineer_can_override_the_choice() -> None:
    assert choose(MANY, "keyed").strategy == "keyed"


def test_an_invalid_override_is_refused_by_name() -> None:
    chosen = choose(replace(MANY, touches=True, hanging=("policy p",)), "swap")

    assert chosen.strategy == "swap"
    assert "policy p" in chosen.refused["swap"]
    assert "time of change" in chosen.refused["swap"]
