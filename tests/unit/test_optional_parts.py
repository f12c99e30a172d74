"""Each part of a plan may be absent; what requires it is then refused when the plan is read."""

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from runbook_lib import checks, steps
from runbook_lib.config.plan import Part, Plan
from runbook_lib.documents import load_plan, resolved
from runbook_lib.errors import ParametersError
from runbook_lib.triage.decision_matrix import recommend
from runbook_lib.ui import failure_menu

from ..support.places import PLAN

KINDS = [each.Keys for each in steps.kinds().values()] + [each.keys for each in checks.kinds().values()]
SMALL: dict[str, Any] = {
    "feature": "SHOP-41",
    "title": "Fees",
    "steps": {"back-up": {"kind": "backup"}},
    "types": {"full": {"title": "Full", "steps": ["back-up"]}},
}


def read(folder: Path, data: dict[str, Any]) -> Plan:
    (folder / "plan.yaml").write_text(yaml.safe_dump(data))
    return load_plan(folder / "plan.yaml")


def with_all() -> dict[str, Any]:
    """The first plan, and the one part that it lacks, with a step that requires it."""
    data: dict[str, Any] = resolved(PLAN)
    data["steps"]["take-back"] = {"kind": "take_back"}
    return {**data, "draft": {"changes": "SHOP-1.changes.yaml", "sha256": "0" * 64}}


def without(part: str) -> dict[str, Any]:
    data = with_all()
    del data["backfills" if part == "backfill" else part]
    return data


@pytest.mark.parametrize("part", [part for part in get_args(Part) if any(part in keys.requires for keys in KINDS)])
def test_what_requires_an_absent_part_is_named_with_its_kind(part: str, tmp_path: Path) -> None:
    with pytest.raises(ParametersError) as caught:
        read(tmp_path, without(part))

    said = str(caught.value)
    requiring = [keys.model_fields["kind"].annotation for keys in KINDS if part in keys.requires]
    kinds = [get_args(kind)[0] for kind in requiring]
    data = with_all()
    named = {
        f"{table}.{n}": x["kind"] for table in ("steps", "checks") for n, x in data[table].items() if x["kind"] in kinds
    }
    assert named
    assert [n for n, kind in named.items() if f"{n} is of the kind {kind}, which requires {part}" not in said] == []
    assert "Nothing was touched." in said


def test_a_plan_may_be_one_step_and_one_type(tmp_path: Path) -> None:
    plan = read(tmp_path, SMALL)

    assert (plan.parts, plan.drift_tolerance) == (frozenset(), 0.0)
    assert recommend(plan, []).reason == "The plan has no decision matrix: a person chooses the type."


@pytest.mark.parametrize("part", ["api", "page", "database"])
def test_a_part_that_is_absent_is_not_handed_out(part: str, tmp_path: Path) -> None:
    plan = read(tmp_path, SMALL)

    with pytest.raises(ParametersError, match=f"has no {part}, and something that does not declare it"):
        getattr(plan, part)


@pytest.mark.parametrize(
    ("parts", "allowed"),
    [
        ({}, {("before", "feature", "feature"), ("feature", "feature", "feature")}),
        (
            {"database": resolved(PLAN)["database"], "repositories": {"backend": {}}},
            {("before", "before", "before"), ("feature", "feature", "feature")},
        ),
    ],
)
def test_without_a_table_only_what_was_released_together_may_run(
    parts: dict[str, Any], allowed: set[tuple[str, str, str]], tmp_path: Path
) -> None:
    assert read(tmp_path, SMALL | parts).combinations == allowed


def test_an_empty_ladder_has_no_next_level(run: Any) -> None:
    run.context.plan = run.context.plan.model_copy(update={"escalation": []})

    assert failure_menu.next_level(run) == ""


def test_a_copy_takes_values_by_the_keys_of_the_file(plan: Plan) -> None:
    assert plan.model_copy(update={"database": None}).parts == plan.parts - {"database", "backfill"}
