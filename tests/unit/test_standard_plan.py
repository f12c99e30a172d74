"""`extends: standard`: the keys it adds to which plan, their overrides, and the keys left out."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.config.plan import Plan
from runbook_lib.documents import digest, load_plan, resolved
from runbook_lib.errors import ParametersError

from ..support.places import PLAN, ROOT, WRITTEN_OUT

PLANS = ROOT / "tests" / "support" / "plans"
SMALL = PLANS / "small.yaml"
STANDARD = ROOT / "runbook_lib" / "config" / "plan" / "standard.yaml"


def read(folder: Path, data: dict[str, Any]) -> Plan:
    (folder / "plan.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return load_plan(folder / "plan.yaml")


def first(**changed: Any) -> dict[str, Any]:
    """The first plan as it stands in its file, with some keys changed; None takes one out."""
    data: dict[str, Any] = {**yaml.safe_load(PLAN.read_text()), **changed}
    return {key: value for key, value in data.items() if value is not None}


def error_of(folder: Path, data: dict[str, Any]) -> str:
    with pytest.raises(ParametersError) as caught:
        read(folder, data)
    assert caught.value.state == "Nothing was touched."
    return caught.value.what


def apart_from_texts(plan: Plan) -> dict[str, Any]:
    """All keys that decide the work: without titles of steps, types, checks and troubles, and without the follow-ups."""
    data = plan.model_dump(serialize_as_any=True, exclude={"follow_ups"})
    for table in ("steps", "types", "checks", "troubles"):
        data[table] = {name: {k: v for k, v in entry.items() if k != "title"} for name, entry in data[table].items()}
    return data


def test_the_first_plan_does_all_that_it_did_when_it_was_written_out() -> None:
    short, long = load_plan(PLAN), load_plan(WRITTEN_OUT)

    assert apart_from_texts(short) == apart_from_texts(long)
    assert [list(short.types), list(short.checks), list(short.troubles)] == [
        list(long.types), list(long.checks), list(long.troubles),
    ]  # fmt: skip
    assert len(PLAN.read_text().splitlines()) <= 120


def test_of_the_first_plan_these_titles_alone_are_others() -> None:
    def titles(plan: Plan) -> dict[str, str]:
        tables = chain(plan.steps.items(), plan.types.items(), plan.checks.items(), plan.troubles.items())
        return {f"{type(each).__name__} {name}": each.title for name, each in tables}

    short, long = titles(load_plan(PLAN)), titles(load_plan(WRITTEN_OUT))

    assert {name.split()[1] for name in long if short[name] != long[name]} == {
        "revert-backend", "build-backend", "push-backend", "revert-frontend", "build-frontend", "push-frontend",
        "restart-frontend", "rebuild-frontend", "frontend", "media-url-as-in-backup", "media-url-missing",
    }  # fmt: skip


def test_a_small_plan_has_what_applies_to_it_and_no_more() -> None:
    plan = load_plan(SMALL)

    assert len(SMALL.read_text().splitlines()) <= 25
    assert {name: kind.steps for name, kind in plan.types.items()} == {
        "full": [
            "freeze", "stop-services", "back-up", "revert-billing", "build-billing", "start-services", "push-billing",
            "purge-cache", "release",
        ]
    }  # fmt: skip
    assert plan.types["full"].checks == ["services-running", "no-billing-errors"]
    assert plan.types["full"].options == {}
    assert [row.symptom for row in plan.decision_matrix] == ["Billing errors"]
    assert (plan.troubles, plan.escalation[0]) == ({}, "full")


def test_the_standard_plan_names_no_repository_and_no_service() -> None:
    text = STANDARD.read_text()

    assert [word for word in ("backend", "frontend", "worker", "billing") if word in text] == []


@pytest.mark.parametrize(
    ("absent", "gone", "kept"),
    [
        ("page", ["frontend", "rebuild-frontend"], ["full", "data", "database", "restore"]),
        ("api", [], ["full", "frontend", "data", "database", "restore"]),
        ("backfill", ["data", "missing-column"], ["full", "frontend", "restore"]),
        ("migration", [], ["full", "frontend", "restore", "data"]),
        ("database", ["data", "database", "restore", "missing-column", "end-sessions"], ["full"]),
    ],
)
def test_what_requires_an_absent_part_is_left_out(absent: str, gone: list[str], kept: list[str], tmp_path: Path) -> None:
    data = first(types=None, steps=None, checks=None)
    for key in {"backfill": ["backfills"], "database": ["database", "backfills"]}.get(absent, [absent]):
        del data[key]
    data["compatibility"] += [{"code": "before", "schema": "before", "data": "feature"}] if absent == "migration" else []

    plan = read(tmp_path, data)

    assert [name for name in gone if name in plan.types] == []
    assert [name for name in kept if name not in plan.types] == []
    required = {part for spec in [*plan.steps.values(), *plan.checks.values()] for part in spec.parts()}
    assert absent not in required


def test_an_option_goes_with_the_step_that_is_its_own(tmp_path: Path) -> None:
    plan = read(tmp_path, first(types=None, steps=None, checks=None, without=["clear-backfill", "remove-columns"]))

    assert list(plan.types["full"].options) == ["C"]
    assert plan.steps["fence-application"].options == ["C"]


def test_a_type_that_is_its_option_goes_with_it(tmp_path: Path) -> None:
    plan = read(tmp_path, first(without=["restore-staging", "swap-database"]))

    assert ("restore" in plan.types, list(plan.types["full"].options)) == (False, ["A", "B"])
    assert plan.escalation == ["frontend", "full", "senior engineering"]
    assert plan.types["full"].escalates_to is None
    assert plan.decision_matrix[-2].symptom == "Performance issues"  # corruption asks for a restore


def test_services_start_at_once_after_each_repository_is_built(tmp_path: Path) -> None:
    data = {
        "feature": "SHOP-1",
        "title": "Three",
        "extends": "standard",
        "repositories": {"api": {}, "web": {}, "jobs": {"paths": {"mailer": ["mailer"]}}},
        "services": ["web", "api", "mailer", "cron"],
    }

    plan = read(tmp_path, data)

    assert [name for name in plan.types["full"].steps if name.startswith(("revert", "start"))] == [
        "revert-api", "revert-web", "revert-jobs", "start-services",
    ]  # fmt: skip
    assert plan.steps["start-services"].model_dump()["services"] == ["api", "cron", "web", "mailer"]


def test_a_mapping_is_overridden_by_name_and_a_list_as_a_whole(tmp_path: Path) -> None:
    data = first(contacts=["Somebody"], types={"full": {"budget": 99, "checks": ["services-running"]}})

    plan = read(tmp_path, data)

    full = plan.types["full"]
    assert (full.budget, full.checks, full.title) == (99, ["services-running"], "Full: all that the feature changed")
    assert plan.contacts == ["Somebody"]
    assert len(full.steps) == 18


def test_a_step_with_a_kind_of_its_own_takes_the_place_of_the_standard_one(tmp_path: Path) -> None:
    plan = read(tmp_path, first(steps={"purge-cache": {"kind": "end_sessions"}}))

    assert plan.steps["purge-cache"].title == "End the sessions that are in the way"


def test_what_is_left_out_is_listed_nowhere(tmp_path: Path) -> None:
    plan = read(tmp_path, first(without=["push-backend", "api-media-url", "data", "frontend-stale"]))

    walked = {name for kind in plan.types.values() for name in [*kind.steps, *kind.checks, *kind.escalates_on]}
    looked = {name for row in plan.decision_matrix for name in [*row.failing, *row.passing, *row.findings]}
    assert {"push-backend", "api-media-url"} & (walked | looked | {*plan.steps} | {*plan.checks}) == set()
    assert ("data" in plan.types, list(plan.troubles)) == (False, ["restore-blocked", "media-url-missing"])
    assert [row.symptom for row in plan.decision_matrix if row.type == "data"] == []
    assert {row.symptom: row.type for row in plan.decision_matrix}["Some media missing"] == "full"
    assert plan.types["frontend"].escalates_to is None  # by no other check


def test_a_type_that_the_table_makes_needless_is_what_it_stood_for(tmp_path: Path) -> None:
    rows = [{"code": c, "schema": s, "data": d} for c in ("before", "feature") for s in ("before", "feature")
            for d in ("before", "feature")]  # fmt: skip
    plan = read(tmp_path, first(compatibility=rows, types=None, needs=[]))

    assert {"data", "database", "backend-and-database"} & {*plan.types} == set()
    assert {row.symptom: row.type for row in plan.decision_matrix}["Performance issues"] == "full"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"extends": "usual"}, "extends: Input should be 'standard', but the file has 'usual'"),
        ({"without": ["push-backand"]}, "`without` names 'push-backand', which is no step, check, type or trouble"),
        ({"without": "push-backend"}, "without: it must be a list"),
        ({"extends": None, "without": ["x"]}, "`without` leaves names out of the plan that is extended"),
        ({"steps": {"purge-cache": 5}}, "steps.purge-cache: it must hold keys and values"),
        ({"steps": {"back-pu": {"estimate": 5}}}, "steps.back-pu"),
        ({"types": {"full": {"steps": "back-up"}}}, "types.full.steps: it must be a list"),
        ({"types": {"full": {"steps": ["back-pu"]}}}, "types.full names 'back-pu', which steps does not define"),
        (
            {"page": None, "steps": None, "types": {"full": {"checks": ["media-renders"]}}},
            "checks.media-renders is of the kind page_render, which requires page, which the plan does not have",
        ),
        (
            {"page": None, "steps": None, "checks": {"thread-loads": {"title": "x"}}},
            "checks.thread-loads is of the kind page_thread, which requires page, which the plan does not have",
        ),
        ({"page": None}, "steps.rebuild-frontend: it has no `kind`, which only what the standard plan brings"),
        ({"compatibility": None}, "types.full with option A ends where the compatibility table does not allow it"),
        ({"repositories": None, "steps": None, "types": None, "checks": None}, "migration names 'backend'"),
        ({"repositories": [1]}, "repositories: it must hold keys and values"),
        ({"steps": {"back-up": {"options": 5}}}, "steps.back-up.backup.options: it must be a list"),
        ({"titel": "x"}, "titel: unknown key"),
        ({"decision_matrix": [{"symptom": "x", "type": "full"}]}, "decision_matrix.0"),
    ],
)  # fmt: skip
def test_a_plan_that_does_not_fit_the_standard_one_is_refused(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in error_of(tmp_path, first(**changed))


def test_the_whole_of_a_plan_reads_as_the_plan_that_extends(tmp_path: Path) -> None:
    whole = resolved(PLAN)

    assert "extends" not in whole
    assert read(tmp_path, whole) == load_plan(PLAN)


def test_the_digest_of_a_plan_counts_what_it_extends(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.read_text().replace("extends: standard", "#"))

    assert len({digest(PLAN), digest(tmp_path / "plan.yaml"), digest(WRITTEN_OUT)}) == 3


def test_the_texts_of_a_page_are_checked_where_the_plan_names_some(tmp_path: Path) -> None:
    data = yaml.safe_load(PLAN.read_text())
    data["page"]["texts"] = [{"column": "content"}]
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(data))

    found, without = load_plan(tmp_path / "plan.yaml"), load_plan(PLAN)

    assert found.checks["frontend-shows-texts"].kind == "page_text"
    assert [name for name, kind in found.types.items() if "frontend-shows-texts" in kind.checks] == [
        "frontend",
        "full",
        "restore",
    ]
    assert "frontend-shows-texts" not in without.checks
