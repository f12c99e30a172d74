"""What a plan may name is there, and is imported only where it is used."""

import subprocess
import sys
from typing import Any, get_args

import pytest

from runbook_lib import checks, steps
from runbook_lib.plan.checks import CheckSpec
from runbook_lib.plan.steps import StepSpec
from runbook_lib.steps.base import Step


def named(specs: Any) -> list[str]:
    """The kinds that a plan may name, of a union of the models that it is read by."""
    union = get_args(specs)[0]
    return [kind for model in get_args(union) for kind in get_args(model.model_fields["kind"].annotation)]


@pytest.mark.parametrize("kind", named(StepSpec))
def test_a_kind_of_step_is_a_step(kind: str) -> None:
    assert issubclass(steps.kind(kind), Step)


@pytest.mark.parametrize("kind", named(CheckSpec))
def test_a_kind_of_check_can_be_called(kind: str) -> None:
    assert callable(checks.kind(kind))


def test_a_command_starts_without_what_it_may_not_need() -> None:
    code = "import sys, runbook_lib.cli; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert loaded & {"numpy", "pandas", "matplotlib", "papermill", "playwright", "IPython"} == set()
