"""Which steps the compatibility table allows, and which types."""

from pathlib import Path

import pytest

from runbook_lib.config.compatibility import BEFORE, FEATURE, Rules, StepEffect, alone
from runbook_lib.config.plan import Plan
from runbook_lib.config.target import Target
from runbook_lib.documents import load_plan
from runbook_lib.errors import ParametersError
from runbook_lib.steps import kinds

from ..support.places import WRITTEN_OUT

YAML = WRITTEN_OUT.read_text()
STOPPED = ["stop-services"]
OLD_BACKEND = ["revert-backend", "build-backend"]
OLD_FRONTEND = ["revert-frontend", "build-frontend"]


@pytest.fixture
def rules(plan: Plan, target: Target) -> Rules:
    return Rules(plan, target.services.built_from)


def refused(rules: Rules, done: list[str], step: str) -> str:
    state = rules.state(map(StepEffect, done))
    return rules.refusal(state, rules.after(state, step))


@pytest.mark.parametrize(
    ("done", "step", "told"),
    [
        pytest.param([], "clear-backfill", "frontend would run the feature's code on the schema with", id="data under it"),
        pytest.param([], "remove-columns", "backend would run the feature's code on the schema from", id="schema under it"),
        pytest.param([], "swap-database", "worker would run the feature's code", id="another database under it"),
        pytest.param(STOPPED, "clear-backfill", "", id="data while all is stopped"),
        pytest.param(STOPPED, "remove-columns", "", id="schema while all is stopped"),
        pytest.param([*STOPPED, "clear-backfill"], "start-services", "data from before", id="start of the feature after it"),
        pytest.param(
            [*STOPPED, "clear-backfill", "revert-backend"],
            "start-services",
            "the feature's code",
            id="taken back, not built",
        ),
        pytest.param(
            [*STOPPED, "clear-backfill", *OLD_BACKEND, *OLD_FRONTEND], "start-services", "", id="start of the old version"
        ),
        pytest.param([*STOPPED, "remove-columns", *OLD_BACKEND], "start-services", "frontend would", id="the other one"),
        pytest.param(OLD_FRONTEND, "restart-frontend", "", id="the frontend alone"),
        pytest.param(
            [*OLD_FRONTEND, "restart-frontend"], "clear-backfill", "backend would run the feature's", id="half the code"
        ),
        pytest.param([*STOPPED, *OLD_BACKEND, *OLD_FRONTEND, "start-services"], "clear-backfill", "", id="live"),
        pytest.param(OLD_BACKEND, "start-services", "frontend would run the feature's code with backend on", id="a need"),
        pytest.param([*STOPPED, *OLD_BACKEND], "restart-frontend", "", id="a need of a service that is stopped"),
        pytest.param([], "revert-backend", "", id="code that does not run yet"),
        pytest.param([], "stop-services", "", id="stopping"),
    ],
)
def test_no_step_leaves_a_running_service_outside_the_table(rules: Rules, done: list[str], step: str, told: str) -> None:
    found = refused(rules, done, step)

    assert told in found
    assert bool(found) == bool(told)


@pytest.mark.parametrize(
    ("code", "told"),
    [([*OLD_BACKEND, *OLD_FRONTEND], ""), ([], "the feature's code")],
    ids=["old code", "feature"],
)
def test_data_half_cleared_must_be_allowed_both_ways(rules: Rules, code: list[str], told: str) -> None:
    standing = [*map(StepEffect, STOPPED), StepEffect("clear-backfill", whole=False), *map(StepEffect, code)]
    state = rules.state(standing)

    found = rules.refusal(state, rules.after(state, "start-services"))

    assert (told in found, bool(found)) == (True, bool(told))


def test_code_that_may_be_either_is_started_only_where_either_may_run(rules: Rules) -> None:
    standing = [StepEffect("stop-services"), StepEffect("clear-backfill"), StepEffect("revert-backend", whole=False)]
    state = rules.state([*standing, StepEffect("build-backend"), *map(StepEffect, OLD_FRONTEND)])

    assert "the feature's code" in rules.refusal(state, rules.after(state, "start-services"))


@pytest.mark.parametrize(("built", "told"), [(True, ""), (False, "the feature's code")], ids=["built", "not built"])
def test_undoing_a_stop_starts_what_is_built_by_then(rules: Rules, built: bool, told: str) -> None:
    code = [*OLD_BACKEND, *OLD_FRONTEND] if built else ["revert-backend", "revert-frontend"]
    standing = [*map(StepEffect, STOPPED), StepEffect("clear-backfill"), *map(StepEffect, code)]

    found = rules.refusal(rules.state(standing), rules.after_undo(standing, "stop-services"))

    assert (told in found, bool(found)) == (True, bool(told))


def test_an_existing_fault_does_not_stop_the_step_that_fixes_it(rules: Rules) -> None:
    assert refused(rules, ["clear-backfill"], "stop-services") == ""
    assert refused(rules, ["clear-backfill"], "revert-backend") == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["frontend"], ""),
        (["backend", "frontend"], ""),
        (["backend"], "frontend would run the feature's code with backend on the code from before"),
        (["data"], "frontend would run the feature's code on the schema with the feature and data from before"),
        (["schema"], "frontend would run the feature's code on the schema from before and data from before"),
        (["schema", "backend"], "frontend would run the feature's code on the schema from before and data from before"),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, list) else "",
)
def test_what_can_be_changed_alone_follows_from_the_table(plan: Plan, changes: list[str], told: str) -> None:
    found = alone(plan, changes)

    assert told in found
    assert bool(found) == bool(told)


@pytest.mark.parametrize(("type_name", "told"), [("data", "data from before"), ("frontend", ""), ("full", "")])
def test_a_type_says_why_it_is_not_executed_by_itself(plan: Plan, type_name: str, told: str) -> None:
    assert told in plan.alone(type_name)
    assert bool(plan.alone(type_name)) == bool(told)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        pytest.param(
            "  - {code: feature, schema: feature, data: feature}",
            "  - {code: feature, schema: feature, data: feature}\n  - {code: feature, schema: feature, data: before}",
            "types.data is executed as full, though the compatibility table allows to change data alone",
            id="an expansion that is not needed",
        ),
        pytest.param(
            "  - {code: before, schema: feature, data: feature}\n",
            "",
            "types.frontend ends where the compatibility table does not allow it: frontend would run the code from before",
            id="a type that ends outside",
        ),
        pytest.param(
            "  - {code: before, schema: before, data: before}\n",
            "",
            "types.full with option B ends where the compatibility table does not allow it",
            id="an option that ends outside",
        ),
        pytest.param("needs: backend, version", "needs: back, version", "needs names 'back'", id="a need of nobody"),
        pytest.param(
            "code: feature, needs: backend, version: feature",
            "code: before, needs: backend, version: feature",
            "frontend would run the code from before with backend on the code from before",
            id="a need that the end does not meet",
        ),
        pytest.param("    changes: [data]\n", "", "carried_out_as and changes", id="nothing said of what it changes"),
        pytest.param("changes: [data]", "changes: [date]", "names 'date'", id="a change that there is not"),
    ],
)
def test_a_plan_whose_types_contradict_its_table_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in YAML
    (tmp_path / "plan.yaml").write_text(YAML.replace(old, new, 1))

    with pytest.raises(ParametersError) as caught:
        load_plan(tmp_path / "plan.yaml")

    assert told in caught.value.what
    assert len(caught.value.what.splitlines()) == 1


def test_the_beginning_is_the_release_with_the_feature(rules: Rules) -> None:
    state = rules.beginning()

    assert (state.database, rules.serves(state)) == ({(FEATURE, FEATURE)}, True)


def test_behind_a_fence_nothing_serves(rules: Rules) -> None:
    assert not rules.serves(rules.state([StepEffect("fence-application")]))
    assert rules.serves(rules.state([StepEffect("fence-application"), StepEffect("let-application-in")]))


def test_a_restored_backup_may_bring_either_schema_until_it_is_known(plan: Plan, target: Target) -> None:
    unknown = Rules(plan, target.services.built_from).state([StepEffect("swap-database")])
    known = Rules(plan, target.services.built_from, frozenset({BEFORE})).state([StepEffect("swap-database")])

    assert (len(unknown.database), known.database) == (2, {(BEFORE, BEFORE)})


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_of_step_declares_what_it_makes_of_code_schema_and_data(rules: Rules, kind: str) -> None:
    step = next(name for name, spec in rules.plan.steps.items() if spec.kind == kind)

    assert rules.after(rules.beginning(), step).running.keys() == set(rules.plan.services)
