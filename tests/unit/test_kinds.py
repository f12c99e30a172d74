"""What every kind of step, check and manager says of itself."""

import subprocess
import sys
from typing import Literal

import pytest
from pydantic import create_model

from runbook_lib import checks, services, steps
from runbook_lib.config.kinds import collected
from runbook_lib.config.loading import Model
from runbook_lib.config.plan import CheckSpec
from runbook_lib.config.plan.steps import About, StepSpec
from runbook_lib.reference import reference
from runbook_lib.steps.services import StopKeys

from ..support.places import ROOT


@pytest.mark.parametrize("kind", steps.kinds())
def test_a_kind_of_step_says_in_sentences_what_it_does(kind: str) -> None:
    about = steps.kind(kind).Keys.about

    assert isinstance(about, About)
    assert about.title and about.estimate > 0
    assert [text for text in (about.does, about.expect, about.if_not, about.preserves) if not text.endswith(".")] == []


def test_two_kinds_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError, match="declares the kind stop, which is declared already"):
        collected("runbook_lib.steps", "none", lambda module: [(StopKeys, object())])


def test_all_kinds_are_found() -> None:
    assert (len(steps.kinds()), len(checks.kinds()), len(services.kinds())) == (20, 23, 4)


def test_the_reference_of_keys_is_that_of_the_models() -> None:
    shown = (ROOT / "docs" / "reference.md").read_text()

    assert shown == reference(), "make it again: python -m runbook_lib.reference > docs/reference.md"
    assert [line for line in shown.splitlines() if line.endswith("|  |")] == []  # a key without a meaning
    assert [f"### kind: `{kind}`" for kind in steps.kinds() if f"### kind: `{kind}`" not in shown] == []


def test_a_command_starts_without_what_it_may_not_need() -> None:
    code = "import sys, runbook_lib.cli; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert loaded & {"numpy", "pandas", "matplotlib", "papermill", "playwright", "IPython"} == set()


@pytest.mark.parametrize(
    ("category", "lacks"), [(StepSpec, "touches, after, about, requires"), (CheckSpec, "area, requires")]
)
def test_a_kind_that_leaves_out_what_it_has_to_say_is_refused(category: type[Model], lacks: str) -> None:
    with pytest.raises(TypeError, match=f"does not declare {lacks}"):
        create_model("Silent", __base__=category, kind=(Literal["silent"], ...))
