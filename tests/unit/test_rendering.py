"""The notebook of a rollback is made of its plan: the steps of a type and an option, and no others."""

import re
from itertools import pairwise
from pathlib import Path

import jupytext
import pytest
from nbformat import NotebookNode

from runbook_lib.config.plan import Plan
from runbook_lib.errors import ParametersError
from runbook_lib.headless.rendering import rendered, write_pair
from runbook_lib.ui.estimates import roughly

from ..support.places import PLAN, ROOT

FILE = str(PLAN.relative_to(ROOT))
APPLIED = re.compile(r'await apply\(run, "(.*)"\)')


def applied(notebook: NotebookNode) -> list[str]:
    return [found[1] for cell in notebook.cells if (found := APPLIED.fullmatch(cell.source))]


@pytest.mark.parametrize(
    ("name", "type_name"),
    [("02-quick-rollback", "frontend"), ("03-full-rollback", "full"), ("06-restore-a-part", "missing-column")],
)
def test_a_committed_notebook_is_what_its_plan_renders(plan: Plan, tmp_path: Path, name: str, type_name: str) -> None:
    pair = write_pair(rendered(plan, type_name, "", FILE), tmp_path / f"{name}.ipynb")

    for made in pair:
        again = f"remove it, then: runbook notebook --plan {FILE} --type {type_name} -o notebooks/{name}.ipynb"
        assert made.read_text() == (ROOT / "notebooks" / made.name).read_text(), again


@pytest.mark.parametrize("option", "ABC")
def test_an_options_notebook_has_its_steps_and_no_others(plan: Plan, option: str) -> None:
    notebook = rendered(plan, "full", option, FILE)
    (parameters,) = [cell.source for cell in notebook.cells if cell.metadata.get("tags") == ["parameters"]]
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")

    assert applied(notebook) == plan.steps_of("full", option)
    assert f'OPTION: str = "{option}"' in parameters
    assert ("option=OPTION" in code, "choose(run, " in code) == (True, False)
    assert ("approve_again(run" in code) == (option == "C")  # the loss is counted by a step


def prose_of_steps(plan: Plan, type_name: str) -> dict[str, str]:
    cells = rendered(plan, type_name, "", FILE).cells
    return {
        found[1]: " ".join(before.source.split())
        for before, cell in pairwise(cells)
        if (found := APPLIED.match(cell.source))
    }


def test_each_step_has_the_prose_of_its_kind_and_how_long_it_takes(plan: Plan) -> None:
    prose = prose_of_steps(plan, "full")

    for name, spec in plan.steps.items():
        if name in plan.types["full"].steps:
            said = prose[name]
            assert said.startswith(f"### {spec.title}")
            assert f"- **Expect**, in {roughly(spec.estimate)}: {spec.about.expect}" in said
            assert all(f"Option {option}" in said or f"or {option} only" in said for option in spec.options[:1])


@pytest.mark.parametrize(
    ("type_name", "step", "state", "command"),
    [
        ("full", "freeze", "No service was stopped.", 'await undo(run, "freeze")'),
        ("full", "stop-services", "Some services may be down.", "runbook service-back RUN"),
        ("full", "clear-backfill", "Stopped services stay down.", "runbook service-back RUN"),
        ("full", "start-services", "Some services may be down.", "runbook service-back RUN"),
        ("full", "push-backend", "The services were started again.", 'await undo(run, "push-backend")'),
        ("full", "purge-cache", "The services were started again.", "runbook status RUN"),
        ("frontend", "restart-frontend", "Some services may be down.", "runbook service-back RUN"),
        ("missing-column", "restore-media-url", "No service was stopped.", 'await undo(run, "restore-media-url")'),
    ],
)
def test_a_step_names_the_state_and_the_next_command_if_it_fails(
    plan: Plan, type_name: str, step: str, state: str, command: str
) -> None:
    (_, failing) = prose_of_steps(plan, type_name)[step].split("- **If it fails**: ")

    assert failing.startswith(f"{state} {plan.steps[step].about.if_not}")
    assert f"`{command}`" in failing


def test_what_is_verified_is_listed(plan: Plan) -> None:
    (verify,) = [cell.source for cell in rendered(plan, "frontend", "", FILE).cells if cell.source.startswith("## Verify")]

    assert re.findall(r"^- (.*)\.$", verify.split("The checks:")[1], re.MULTILINE) == [
        plan.checks[check].title for check in plan.types["frontend"].checks
    ]


def test_a_type_that_is_another_in_disguise_renders_that_one(plan: Plan) -> None:
    assert rendered(plan, "data", "A", FILE) == rendered(plan, "full", "A", FILE)


def test_no_words_of_a_plan_break_a_cell_in_two(plan: Plan, tmp_path: Path) -> None:
    step = plan.steps["back-up"].model_copy(update={"title": "Save\n%% it\n# %%\nall" + " %%" * 60})
    check = plan.checks["thread-loads"].model_copy(update={"title": "It loads" + " %%" * 60})
    odd = plan.model_copy(
        update={"steps": {**plan.steps, "back-up": step}, "checks": {**plan.checks, "thread-loads": check}}
    )
    made = rendered(odd, "missing-column", "", 'a "plan".yaml')
    _, text = write_pair(made, tmp_path / "odd.ipynb")

    assert [cell.source for cell in jupytext.read(text).cells] == [cell.source for cell in made.cells]
    assert applied(made) == plan.types["missing-column"].steps


@pytest.mark.parametrize(
    ("type_name", "option", "said"),
    [("nowhere", "", "no rollback type"), ("full", "Z", "option"), ("frontend", "A", "option")],
)
def test_what_a_plan_does_not_have_is_not_rendered(plan: Plan, type_name: str, option: str, said: str) -> None:
    with pytest.raises(ParametersError, match=said):
        rendered(plan, type_name, option, FILE)
