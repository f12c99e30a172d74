"""What was purged cannot be undone, and an undo says so and changes nothing."""

import re

import pytest

from ..support.bare import Bare, runbook, words

pytestmark = pytest.mark.newest

ALL = "SELECT to_jsonb(m) FROM messages m ORDER BY id"


def digest(text: str) -> str:
    found = re.findall(r"--approve (\w{16})", text)
    assert found, text
    return str(found[-1])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["swap", "batched", "keyed"])
def test_an_undo_of_a_clearing_that_was_purged_is_refused_by_name(target: Bare, strategy: str) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.steps("back-up", "clear-backfill", clear_backfill={"live": True})
    assert target.planned(choose=f"STRATEGY={strategy}").exit_code == 0
    assert target.executed().exit_code == 0
    purge = digest(runbook("purge", target.run).text)
    assert runbook("purge", target.run, "--approve", purge).exit_code == 0
    after = target.ask(ALL)

    offered = runbook("undo", target.run, "--step", "clear-backfill")
    found = re.findall(r"--approve (\w{16})", offered.text)
    ended = runbook("undo", target.run, "--step", "clear-backfill", *(["--approve", found[-1]] if found else []))

    assert "the old values were purged" in words(ended.text)
    assert "restored" not in ended.text
    assert ended.exit_code != 0
    assert target.ask(ALL) == after
    assert target.opened().state.step("clear-backfill").status == "done"
