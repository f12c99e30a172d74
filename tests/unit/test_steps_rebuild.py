"""Building again: which caches a plan may name."""

from typing import Any

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.steps.build import RebuildKeys


@pytest.mark.parametrize("path", ["/etc", "..", "../other", "a/../../b", "~", "", "."])
def test_a_cache_outside_the_checkout_is_an_error_of_the_plan(plan: Plan, path: str) -> None:
    spec: Any = plan.steps["rebuild-frontend"].model_dump()

    with pytest.raises(ValueError, match="clear"):
        RebuildKeys.model_validate({**spec, "clear": [path]})
