"""Building anew: which caches are removed, and which are left alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.context import Context
from runbook_lib.errors import PreconditionError
from runbook_lib.journal.state import StepState
from runbook_lib.steps import Effect
from runbook_lib.steps.build import Rebuild, RebuildKeys
from runbook_lib.system.processes import ScriptedProcesses

HEAD = "5eed" * 10


@pytest.fixture
def step(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rebuild:
    """The frontend's rebuild, in a checkout that tracks src and nothing else; its build leaves the commit's id."""
    checkout = tmp_path / "checkout"
    for name in ("dist", "src"):
        (checkout / name).mkdir(parents=True)
        (checkout / name / "file").write_text("stale")

    def script(command: tuple[str, ...]) -> tuple[int, str, str]:
        if "ls-files" in command or "ls-tree" in command:
            return 0, ("src/file\0" if any("src" in part for part in command) else ""), ""
        if command == ("git", "rev-parse", "HEAD"):
            return 0, f"{HEAD}\n", ""
        (checkout / "dist").mkdir(exist_ok=True)
        (checkout / "dist" / "version.json").write_text(HEAD)
        return 0, "built", ""

    context.adapters = context.adapters.but(processes=ScriptedProcesses(script))
    frontend = context.target.repositories["frontend"].model_copy(update={"path": str(checkout)})
    context.target = context.target.model_copy(update={"repositories": {"frontend": frontend}})
    return Rebuild("rebuild-frontend", context)


def test_caches_are_removed_and_the_build_is_made_anew(step: Rebuild) -> None:
    left = step.apply()

    assert left["removed"] == ["dist"]
    assert [path.name for path in (step.path / "dist").iterdir()] == ["version.json"]
    assert (step.path / "src" / "file").exists()


def test_a_folder_that_git_tracks_is_never_removed(step: Rebuild, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(step.spec, RebuildKeys)
    monkeypatch.setattr(step, "spec", step.spec.model_copy(update={"clear": ["src"]}))

    with pytest.raises(PreconditionError, match="git tracks"):
        step.apply()

    assert [(step.path / name / "file").exists() for name in ("dist", "src")] == [True, True]


def test_a_build_of_the_right_commit_by_somebody_else_is_no_rebuild(step: Rebuild) -> None:
    (step.path / "dist" / "version.json").write_text(HEAD)

    assert step.probe().effect is Effect.NOT_DONE


def test_after_a_crash_it_is_done_again_and_once_recorded_it_is_done(step: Rebuild) -> None:
    step.apply()
    assert step.probe().effect is Effect.NOT_DONE

    step.context.state = replace(step.context.state, steps={step.name: StepState(step.name, "Build", "done")})
    assert step.probe().effect is Effect.DONE


@pytest.mark.parametrize("path", ["/etc", "..", "../other", "a/../../b", "~", "", "."])
def test_a_cache_outside_the_checkout_is_an_error_of_the_plan(plan: Plan, path: str) -> None:
    spec: Any = plan.steps["rebuild-frontend"].model_dump()

    with pytest.raises(ValueError, match="clear"):
        RebuildKeys.model_validate({**spec, "clear": [path]})
