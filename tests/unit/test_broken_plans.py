"""Whatever a plan over the standard one has in a key, it is read, or refused with one clear error."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.config.plan import Plan
from runbook_lib.documents import load_plan, plan_model
from runbook_lib.errors import ParametersError

from ..support.places import PLAN, WRITTEN_OUT

SMALL = WRITTEN_OUT.with_name("small.yaml")
PLANS: list[dict[str, Any]] = [
    yaml.safe_load(PLAN.read_text()),
    yaml.safe_load(SMALL.read_text()),
    {**yaml.safe_load(WRITTEN_OUT.read_text()), "extends": "standard"},
]
TOP = [(field.alias or name,) for name, field in plan_model().model_fields.items()]
WRONG: list[Any] = [
    None, 5, True, 1.5, "x", "full", "{x}", [], [1], [[]], ["full"], ["back-up"], {}, {1: 2}, {"a": 1}, {"kind": "stop"},
    {"full": None}, {"full": {"steps": None}},
]  # fmt: skip


def paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from paths(value, (*path, key))


@st.composite
def broken(draw: st.DrawFn) -> dict[str, Any]:
    plan = deepcopy(draw(st.sampled_from(PLANS)))
    *path, last = draw(st.sampled_from([*paths(plan), *TOP]))
    place: Any = plan
    for key in path:
        place = place[key]
    place[last] = draw(st.sampled_from(WRONG))
    return plan


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("broken") / "plan.yaml"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(plan=broken())
def test_a_wrong_value_anywhere_is_one_clear_error(file: Path, plan: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(plan, sort_keys=False))
    try:
        read = load_plan(file)
    except ParametersError as error:
        assert str(file) in str(error)
        assert error.state == "Nothing was touched."
    else:
        assert isinstance(read, Plan)
