"""An open point of a plan is null: it stops the plan, with its line and its question."""

import re
from pathlib import Path

import pytest

from runbook_lib.documents import load_plan
from runbook_lib.errors import ParametersError

from ..support.bare import runbook

PLAN = """feature: SHOP-41
title: Fees
extends: standard
services: [billing]
"""
WHOLE = "repositories: {billing: {}}\n"


def written(folder: Path, *parts: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(PLAN + "".join(parts))
    return path


COMMIT = """repositories:
  billing:
    decide:
      # decide: is “Round fees” the feature's?
      #   Answer `feature` or `other`.
      "0123456789ab": ANSWER
"""


@pytest.mark.parametrize(
    ("part", "line", "said"),
    [
        (COMMIT.replace("ANSWER", "null"), 10, "is “Round fees” the feature's? Answer `feature` or `other`."),
        (WHOLE + "# decide: what was before?\ndraft: {changes: a.changes.yaml, sha256: null}\n", 7, "what was before?"),
        (WHOLE + "# decide: goose or sqlx?\nmigration: {tool: null, repository: billing, versions: ['1']}\n", 7, "goose or"),
        (WHOLE + "decide:\n  # decide: the cents went.\n  orders.fee: null\n", 8, "the cents went."),
    ],
)
def test_what_is_open_stops_with_its_line_and_what_is_asked(tmp_path: Path, part: str, line: int, said: str) -> None:
    file = written(tmp_path, part)

    ended = runbook("check-plan", file)

    assert (ended.exit_code, f"{file} leaves 1 to decide:" in ended.text) == (2, True), ended.text
    assert re.search(rf" line {line}, .*: {re.escape(said)}", ended.text), ended.text


def test_a_table_without_a_decision_says_how_it_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(ParametersError, match=r"line 7: decide\.orders\.fee: how does it come back\? {value: SQL}"):
        load_plan(written(tmp_path, WHOLE, "decide:\n  orders.fee: null\n"))


@pytest.mark.parametrize(("answer", "listed"), [("feature", "commits"), ("other", "exclude")])
def test_an_answer_about_a_commit_lists_it(tmp_path: Path, answer: str, listed: str) -> None:
    plan = load_plan(written(tmp_path, COMMIT.replace("ANSWER", answer)))

    found = plan.repositories["billing"]
    assert {key: getattr(found, key) for key in ("commits", "exclude")} == {"commits": [], "exclude": []} | {
        listed: ["0123456789ab"]
    }
