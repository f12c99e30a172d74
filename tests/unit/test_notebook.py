"""What an approval asks for, headless and of a person; and what a cell that failed offers."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from runbook_lib import notebook
from runbook_lib.checks.prerequisites import looked
from runbook_lib.errors import Declined, ParametersError, RunbookError, StepFailed
from runbook_lib.results import Status
from runbook_lib.run import Run
from runbook_lib.ui import cells


@pytest.fixture
def asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A production run with one preview; requests and approvals are recorded, a different answer declines."""
    noted: dict[str, Any] = {}

    async def confirmation(question: str, answer: str, value: str) -> str:
        noted["answer"] = answer
        if noted.get("typed", value) != answer:
            raise Declined(question)
        return "somebody"

    run.context.target = run.context.target.model_copy(update={"environment": "production", "name": "production-eu"})
    run.journal.append("previewed", digest="d1", steps={}, shown=[])
    monkeypatch.setattr(notebook, "confirmation", confirmation)
    monkeypatch.setattr(run, "approve", lambda digest, by: noted.update(approved=digest))
    return noted


def test_headless_only_the_digest_approves(run: Run, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "attended", lambda: False)

    asyncio.run(notebook.approve(run, "d1"))

    assert asked == {"answer": "d1", "approved": "d1"}


def test_headless_the_targets_name_approves_nothing(
    run: Run, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "attended", lambda: False)

    with pytest.raises(Declined):
        asyncio.run(notebook.approve(run, "production-eu"))

    assert "approved" not in asked


@pytest.mark.parametrize("parameter", ["", "d1"])
def test_a_person_types_the_name_of_a_production_target(
    run: Run, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, parameter: str
) -> None:
    monkeypatch.setattr(notebook, "attended", lambda: True)
    asked["typed"] = "production-eu"

    asyncio.run(notebook.approve(run, parameter))

    assert (asked["answer"], asked["approved"]) == ("production-eu", "d1")


@pytest.fixture
def triaged(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose triage recommends the full rollback, with nobody at the keyboard."""
    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")
    run.journal.append("recommended", type="full", reason="seen", symptom="All media missing")
    return run


def test_another_type_than_recommended_is_chosen_with_a_recorded_reason(triaged: Run) -> None:
    asyncio.run(notebook.choose(triaged, "TYPE", "frontend", "quick costs no outage"))

    (override,) = triaged.state.overrides
    assert (override["recommended"], override["chosen"], override["reason"]) == ("full", "frontend", "quick costs no outage")
    assert triaged.state.type == "frontend"


@pytest.mark.parametrize("reason", ["", "because", "  so   what "])
def test_without_a_reason_another_type_is_not_chosen(triaged: Run, reason: str) -> None:
    with pytest.raises(ParametersError, match="is too short"):
        asyncio.run(notebook.choose(triaged, "TYPE", "frontend", reason))

    assert (triaged.state.overrides, triaged.state.choices) == ((), {})


def test_what_is_recommended_needs_no_reason(triaged: Run) -> None:
    asyncio.run(notebook.choose(triaged, "TYPE", "full"))

    assert triaged.state.overrides == ()


@pytest.mark.parametrize("recommended", ["", "database"])
def test_after_a_longer_look_its_word_counts(triaged: Run, recommended: str) -> None:
    triaged.journal.append("recommended", type=recommended, reason="watched")

    assert notebook.recommended(triaged) == recommended


@pytest.mark.parametrize(
    ("found", "value", "type_name"),
    [
        (["restore-blocked"], "", "end-sessions"),
        (["frontend-stale", "restore-blocked"], "restore-blocked", "end-sessions"),
        ([], "frontend-stale", "rebuild-frontend"),
    ],
)
def test_the_only_trouble_found_is_fixed_else_the_one_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, found: list[str], value: str, type_name: str
) -> None:
    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")
    run.context.state = replace(run.context.state, type="")
    run.journal.append("diagnosed", troubles=found, text="seen")

    asyncio.run(notebook.choose_trouble(run, value))

    assert run.state.type == type_name


@pytest.mark.parametrize("found", [[], ["frontend-stale", "restore-blocked"]])
def test_where_none_or_several_are_found_nobody_guesses(run: Run, monkeypatch: pytest.MonkeyPatch, found: list[str]) -> None:
    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")
    run.context.state = replace(run.context.state, type="")
    run.journal.append("diagnosed", troubles=found, text="seen")

    with pytest.raises(ParametersError, match="TROUBLE"):
        asyncio.run(notebook.choose_trouble(run))


def test_a_trouble_that_another_notebook_fixes_names_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")
    run.context.state = replace(run.context.state, type="")

    with pytest.raises(Declined, match="06-restore-a-part"):
        asyncio.run(notebook.choose_trouble(run, "media-url-missing"))


def test_a_plan_without_troubles_has_none_to_choose(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")
    run.context.state = replace(run.context.state, type="")
    run.context.plan = run.context.plan.model_copy(update={"troubles": {}})

    with pytest.raises(Declined, match="names no trouble"):
        asyncio.run(notebook.choose_trouble(run))


@pytest.mark.parametrize(
    ("step", "said"), [("build-shop", "not part of this plan"), ("remove-columns", "not part of option A")]
)
def test_a_step_that_is_not_the_rollbacks_is_passed_over(run: Run, step: str, said: str) -> None:
    assert said in asyncio.run(notebook.apply(run, step)).text
    assert not run.state.steps


@pytest.mark.parametrize("type_name", ["frontend", "full", "missing-column", "restore", "rebuild-frontend", "end-sessions"])
def test_the_notebook_of_each_type_walks_all_its_steps(run: Run, type_name: str) -> None:
    run.context.state = replace(run.context.state, type=type_name)

    assert looked(run.context, "notebook").status is Status.PASS


# --- the recovery path


def shown_by(run: Run, error: RunbookError, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a cell shows whose step ends with an error while the services are stopped."""
    shown: list[str] = []

    def failing(run: Run, step: str) -> None:
        raise error

    run.journal.append("started", step="stop-services", title="Stop the services")
    monkeypatch.setattr(cells, "show", lambda what: shown.append(str(what)))
    monkeypatch.setattr(notebook.engine, "apply", failing)
    with pytest.raises(type(error)):
        asyncio.run(notebook.apply(run, "back-up"))
    return "\n".join(shown)


def test_a_failed_step_offers_the_recovery_with_its_estimate(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = shown_by(run, StepFailed("No space left."), monkeypatch)

    assert "Service back in 20 s of the 600 s that the plan allows" in shown
    assert "undo | Stop the services | 20 s" in shown
    assert f"runbook service-back {run.folder.path}" in shown


def test_what_was_declined_offers_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown_by(run, Declined("Not approved."), monkeypatch) == ""


# --- a notebook of one option


@pytest.fixture
def opened(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """That run, as `open_run` finds it in its folder; nothing looks at its page."""
    monkeypatch.setattr(notebook.lifecycle, "open_existing", lambda *_: run)
    monkeypatch.setattr(run, "begin_look_before", lambda: None)
    return run


def test_a_run_without_a_step_goes_by_the_option_of_the_notebook(opened: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")

    asyncio.run(notebook.open_run("", "", type="full", option="B", run="its-folder"))

    assert opened.state.option == "B"


def test_a_run_that_has_begun_is_refused_by_another_options_notebook(opened: Run) -> None:
    opened.journal.append("started", step="stop-services", title="Stop the services")

    with pytest.raises(ParametersError, match="This run is of option A, and this notebook executes option B"):
        asyncio.run(notebook.open_run("", "", type="full", option="B", run="its-folder"))
    assert opened.state.option == "A"
