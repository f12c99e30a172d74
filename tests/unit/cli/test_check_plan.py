"""`runbook check-plan`: a plan is read, resolved and shown, or refused with one clear error."""

import json
from pathlib import Path

import pytest
import yaml

from runbook_lib.documents import load_plan

from ...support.commands import Command, words
from ...support.places import PLAN, ROOT, TARGET

SMALL = ROOT / "tests" / "support" / "plans" / "small.yaml"
FIRST = PLAN.read_text()


def test_each_type_has_its_steps_and_checks_by_title(runbook: Command) -> None:
    code, out, _ = runbook("check-plan", PLAN)

    plan = load_plan(PLAN)
    head, *lines = out.splitlines()
    assert (code, head.split(": ")[0]) == (0, plan.feature)
    assert [line.split(": ")[0] for line in lines if not line.startswith(" ")] == list(plan.types)
    full = words(out.partition("\nfull: ")[2].partition("\nmissing-column: ")[0])
    assert [each for each in plan.types["full"].steps if plan.steps[each].title not in full] == []
    assert [each for each in plan.types["full"].checks if plan.checks[each].title not in full] == []
    assert "Option A: clear the backfilled entries [A]" in full
    assert "data: Data alone. As full: The feature's frontend reads attachments" in words(out)


def test_the_whole_plan_is_printed_as_a_plan(runbook: Command, tmp_path: Path) -> None:
    _, out, _ = runbook("check-plan", PLAN, "--resolved")
    (tmp_path / "whole.yaml").write_text(out)

    assert load_plan(tmp_path / "whole.yaml") == load_plan(PLAN)
    assert len(out.splitlines()) > 300


def test_as_json_it_is_one_object(runbook: Command) -> None:
    _, short, _ = runbook("check-plan", SMALL, "--json")
    _, long, _ = runbook("check-plan", SMALL, "--json", "--resolved")

    shown = json.loads(short)
    assert (shown["feature"], shown["parts"]) == ("SHOP-41", ["repositories"])
    assert [step["name"] for step in shown["types"]["full"]["steps"]][:3] == ["freeze", "stop-services", "back-up"]
    assert json.loads(long)["plan"]["steps"]["back-up"] == {"kind": "backup"}


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(("plan", "code", "lacks"), [(PLAN, 0, ""), (SMALL, 2, "repositories.billing, services.versions")])
def test_a_target_is_checked_against_the_plan(runbook: Command, plan: Path, code: int, lacks: str) -> None:
    ended, _, err = runbook("check-plan", plan, "--target", TARGET)

    assert (ended, lacks in err) == (code, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("feature: [SHOP", "cannot be read as YAML: while parsing a flow sequence"),
        ("", "holds no keys"),
        ("- feature", "holds no keys"),
        ("feature: SHOP-1", "plan.yaml: title: missing; add it."),
        (FIRST.replace("  table: messages", "  tabel: messages"), "line 8: database.tabel: unknown key"),
        (FIRST.replace("without the feature.", "\tx").replace("services: [", "services: [[]"), "cannot be read as YAML"),
        (FIRST.replace("extends: standard", "extends: usual"), "line 4: extends: Input should be 'standard'"),
        (FIRST + "without: [push-backand]\n", "`without` names 'push-backand', which is no step, check, type or trouble"),
        (FIRST + "without: [push-backand]\n", "name one of: push-backend"),
        (FIRST.replace("title: Message replies", "title: Message\n  replies: x"), "cannot be read as YAML"),
        (
            FIRST.replace("stop-services: {", "stop-services: {estimate: soon, "),
            "stop-services.stop.estimate: Input should",
        ),
        (
            SMALL.read_text() + "types: {full: {checks: [no-console-errors]}}\n",
            "checks.no-console-errors is of the kind page_console, which requires page and api and database",
        ),
        (
            SMALL.read_text() + "steps: {clear: {kind: clear_backfill}}\n",
            "steps.clear is of the kind clear_backfill, which requires backfills, which the plan does not have",
        ),
        (
            SMALL.read_text() + "checks: {shown: {kind: page_media, title: Shown}}\n",
            "checks.shown is of the kind page_media, which requires page and api and database and backfill",
        ),
    ],
)
def test_a_plan_that_is_wrong_is_one_error(runbook: Command, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "plan.yaml").write_text(text)

    code, out, err = runbook("check-plan", "plan.yaml")

    assert (code, out) == (2, "")
    assert said in words(err)
    assert err.count("Nothing was touched.") == 1


def test_a_missing_file_is_one_error(runbook: Command) -> None:
    assert runbook("check-plan", "nowhere.yaml")[::2] == (
        2,
        "There is no file nowhere.yaml.\n  State: Nothing was touched.\n"
        f"  Safe next: Name a file that exists; a relative path starts from {ROOT}.\n",
    )  # fmt: skip


def test_what_is_wrong_is_an_object_too(runbook: Command, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"feature": 1}))

    code, out, _ = runbook("check-plan", "plan.yaml", "--json")

    assert (code, json.loads(out)["exit_code"], "plan.yaml, line 1: feature" in json.loads(out)["error"]) == (2, 2, True)
