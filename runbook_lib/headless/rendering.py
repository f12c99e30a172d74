"""The notebook of a rollback, rendered from its plan: the steps of a type, or of one option of it, and no others."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runbook_lib.checks.prerequisites import MARK, NOTEBOOKS
from runbook_lib.config.plan import DatabaseStep, Plan, RestoringStep, RollbackType, ServicesStep, StepSpec
from runbook_lib.errors import ParametersError
from runbook_lib.run.lifecycle import notebook_of
from runbook_lib.ui.estimates import outage, planned, roughly

if TYPE_CHECKING:
    from nbformat import NotebookNode

TARGET = "rehearsal"  # where a notebook runs that was rendered for no target
WIDTH = 118  # characters of a line of prose
PARAMETERS: Mapping[str, object] = {"jupyter": {"source_hidden": True}, "tags": ["parameters"]}  # the cell's metadata
Cell = tuple[Literal["prose", "parameters", "code"], str]


def rendered(plan: Plan, type_name: str, option: str, plan_file: str, target: str = TARGET) -> NotebookNode:
    """Return the notebook of a rollback type, with the steps of one option, or of all of them where it is "". Read-only.

    Raises:
        ParametersError: The plan has no such type or option, or a person has to execute the type.
    """
    from nbformat import v4

    name = plan.carried_out(type_name)
    kind = plan.types[name]
    if option and option not in kind.options:
        raise ParametersError(
            f"The rollback type {name} has no option {option!r}.",
            state="Nothing was written.",
            safe_next=f"Choose one of: {', '.join(kind.options)}." if kind.options else "Leave the option out.",
        )
    options = [option] if option else list(kind.options)
    cells = []
    for number, (role, text) in enumerate(_cells(plan, name, options, plan_file, target), 1):
        about = {"id": f"cell-{number:02}", "metadata": PARAMETERS if role == "parameters" else {}}
        cells.append(v4.new_markdown_cell(text, **about) if role == "prose" else v4.new_code_cell(text, **about))
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook: NotebookNode = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, MARK: {"type": name}})
    return notebook


def for_all_plans(name: str) -> Path | None:
    """The notebook of that name which no plan renders, as that of triage; None where there is none. Read-only."""
    file = NOTEBOOKS / f"{name}.ipynb"
    if not file.exists() or MARK in json.loads(file.read_text(encoding="utf-8"))["metadata"]:
        return None
    return file


def all_for_all_plans() -> list[Path]:
    """The notebooks that no plan renders, by name. Read-only."""
    return [file for file in sorted(NOTEBOOKS.glob("*.ipynb")) if for_all_plans(file.stem)]


def written(plan: Plan, type_name: str, option: str, plan_file: str, into: Path) -> Path:
    """Write the notebook of a rollback, without its text, to `into`; one option of several is part of its name."""
    import nbformat

    of = f"-option-{option}" if option and len(plan.types[plan.carried_out(type_name)].options) > 1 else ""
    file = into / f"{name_of(plan, type_name)}{of}.ipynb"
    nbformat.write(rendered(plan, type_name, option, plan_file), file)
    return file


def name_of(plan: Plan, type_name: str) -> str:
    """The name of the notebook that walks a type, or the type that is executed in its place. Read-only."""
    return notebook_of(plan, plan.carried_out(type_name))


def write_pair(notebook: NotebookNode, file: Path) -> tuple[Path, Path]:
    """Write a notebook as `.ipynb`, and its text next to it as `.py`.

    Raises:
        ParametersError: The name does not end in `.ipynb`, its folder does not exist, or a file of the pair does.
    """
    import jupytext

    pair = file, file.with_suffix(".py")
    if file.suffix != ".ipynb" or not file.parent.is_dir():
        raise ParametersError(
            f"{file} is no place for a notebook: the folder must exist, and the name end in .ipynb.",
            state="Nothing was written.",
            safe_next="Name another file with -o.",
        )
    if there := [path for path in pair if path.exists()]:
        raise ParametersError(
            f"{there[0]} exists.", state="Nothing was written.", safe_next="Remove it, or name another file with -o."
        )
    notebook.metadata["jupytext"] = {"formats": "ipynb,py:percent"}
    for path, form in zip(pair, ("ipynb", "py:percent"), strict=True):
        path.write_text(jupytext.writes(notebook, form), encoding="utf-8")
    return pair


def _cells(plan: Plan, name: str, options: Sequence[str], plan_file: str, target: str) -> Iterator[Cell]:
    kind = plan.types[name]
    steps = {step: plan.steps[step] for step in kind.steps if not options or _is_of(plan.steps[step], options)}
    yield "prose", _prose(f"# {_one_line(kind.title)}", *_about(plan, name, options))
    yield "parameters", "\n".join(_parameters(plan_file, target, options, steps.values()))
    yield "prose", _prose("## Open the run", OPEN)
    rest = [*_opening(kind, options, steps), *_before(plan, name, options), *_steps(steps, options)]
    rest += _closing(plan, kind, steps)
    yield "code", "\n".join([*_imports(text for role, text in rest if role == "code"), "", *_opened(name, options)])
    yield from rest


OPEN = """\
*Do*: run the cell. *Expect*: a banner with the target's name and colour; read both. *If not*: the message names the
file and the key to correct."""
STATUS = """\
*Do*: run the cell, now and whenever the page or the kernel was lost. *Expect*: each step and its state, by the
journal."""
OPTION = """\
*Do*: choose. *Expect*: one line that says what was chosen. The cells of another option say so and do nothing."""
CHOICES = """\
*Do*: choose, or leave what the plan says; headless, CHOICES (`STRATEGY=swap, EDITED=keep`). *Expect*: one line for each."""
PREREQUISITES = """\
*Do*: run the cell. *Expect*: PASS in every row. *If not*: nothing was touched; correct what the row names and run the
cell again."""
PREVIEW = """\
*Do*: run the cell and read it: what each step changes, what it loses, how it is undone. *Expect*: a digest above the
table. *If not*: nothing was touched."""
LOOK = """\
*Do*: run the cell. *Expect*: what is broken shows here as FAIL; the screenshot is kept, to be compared with the one
after."""
NOTIFY = """\
*Do*: run the cell and send the text. *Expect*: the text with target, reason and whom to send it to. Nothing is sent
by itself."""
APPROVE = """\
*Do*: give the answer asked for. *Expect*: one line APPROVED. *If not*: nothing was touched, and no step below will
act."""
LOSS = """\
**The loss is counted only now.** *Do*: read the new preview and approve it; headless, run again with its digest.
*Expect*: APPROVED. Where nothing has drifted, as with any other option, the first approval holds and nothing is
asked. *If not*: no service was stopped."""
COMPARE = """\
*Do*: run the cell. *Expect*: the rows of each kind as the preview announced."""
ESCALATE = """\
*Do*: run the cell. *Expect*: “No escalation is called for”, or the notebook to open with the RUN to give it. What is
done stays done."""
TIMELINE = """\
*Do*: run the cell. *Expect*: each step against its budget, as a table and a plot."""
CLOSE = """\
*Do*: run the cell. *Expect*: VERIFIED, or that the run goes on; report and log are in the run folder."""


def _about(plan: Plan, name: str, options: Sequence[str]) -> Iterator[str]:
    """What is rolled back, and for each option how many steps there are and how long they should take."""
    yield f"{plan.feature}: {plan.title}. Everything that can be known beforehand is looked at before the first change."
    for option, steps in _by_option(plan, name, options).items():
        described = f"Option {option}, {plan.types[name].options[option]}: " if option else ""
        yield f"- {described}{planned(steps)}."


def _by_option(plan: Plan, name: str, options: Sequence[str]) -> dict[str, list[StepSpec]]:
    return {option: [plan.steps[step] for step in plan.steps_of(name, option)] for option in options or [""]}


def _parameters(plan_file: str, target: str, options: Sequence[str], steps: Iterable[StepSpec]) -> Iterator[str]:
    yield f"PLAN: str = {_quoted(plan_file)}  # what the rollback is"
    yield f"TARGET: str = {_quoted(target)}  # where it runs: a file, or the name of one below parameters/"
    if options:
        which = "the one that this notebook is for" if len(options) == 1 else "one of those above"
        yield f"OPTION: str = {_quoted(options[0])}  # what happens to the data: {which}"
    if any(isinstance(step, DatabaseStep) for step in steps):
        yield 'CHOICES: str = ""  # other than the plan, a name and its value each: STRATEGY, EDITED, REMOVAL, FILL, …'
    yield 'OPERATOR: str = ""  # who is at the keyboard'
    yield 'REASON: str = ""  # why, for the log'
    yield 'INCIDENT: str = ""  # the incident\'s number'
    yield 'RUN: str = ""  # the folder of a run to resume; empty begins a new one'
    yield 'APPROVE: str = ""  # headless: the digest of the preview that was approved'
    yield 'WAIVE: str = ""  # break glass, "name: reason", for a check or a step that may fail'


def _imports(calls: Iterable[str]) -> list[str]:
    """The lines that import the functions which begin these cells."""
    names = {found[1] for call in calls if (found := CALLED.match(call))} | {"open_run"}
    lines = textwrap.wrap(", ".join(sorted(names)), WIDTH - len(IMPORT), break_long_words=False)
    return [IMPORT + line.rstrip(",") for line in lines]


IMPORT = "from runbook_lib.notebook import "
CALLED = re.compile(r"(?:\w+ = )?(?:await )?(\w+)\(")


def _opened(name: str, options: Sequence[str]) -> list[str]:
    fixed = ", option=OPTION" if len(options) == 1 else ""
    return [
        'about = {"operator": OPERATOR, "reason": REASON, "incident": INCIDENT, "waive": WAIVE}',
        f"run = await open_run(PLAN, TARGET, type={_quoted(name)}{fixed}, run=RUN, **about)",
    ]


def _opening(kind: RollbackType, options: Sequence[str], steps: Mapping[str, StepSpec]) -> Iterator[Cell]:
    yield "prose", _prose("### The state of the run", STATUS)
    yield "code", "status(run)"
    if len(options) > 1:
        described = [f"- {option}: {kind.options[option]}." for option in options]
        yield "prose", _prose("### What happens to the data", OPTION, *described)
        yield "code", 'option = await choose(run, "OPTION", OPTION)'
    if any(isinstance(step, DatabaseStep) for step in steps.values()):
        yield "prose", _prose("### What else is open", CHOICES)
        yield "code", "await choose_details(run, CHOICES)"


def _before(plan: Plan, name: str, options: Sequence[str]) -> Iterator[Cell]:
    yield "prose", _prose("## Before the first change\n\n### Prerequisites", PREREQUISITES)
    yield "code", "await check_prerequisites(run)"
    yield "prose", _prose("### Preview", PREVIEW)
    yield "code", "await preview(run)"
    if any(plan.checks[check].opens for check in plan.types[name].checks):
        yield "prose", _prose("### The page as users see it now", LOOK)
        yield "code", "await look_before(run)"
    yield "prose", _prose("### Tell the team that it begins", NOTIFY)
    yield "code", 'await notify(run, "start")'
    stops = any(map(outage, _by_option(plan, name, options).values()))
    warning = f"**After this the steps below change the target{', and services stop' if stops else ''}.**"
    yield "prose", _prose("### The approval", f"{warning} {APPROVE}")
    yield "code", "await approve(run, APPROVE)"


def _steps(steps: Mapping[str, StepSpec], options: Sequence[str]) -> Iterator[Cell]:
    yield "prose", "## The steps"
    for name, spec in steps.items():
        yield "prose", _prose(f"### {_one_line(spec.title)}", *_of_step(spec, options))
        yield "code", f"await apply(run, {_quoted(name)})"
        if isinstance(spec, RestoringStep):
            yield "prose", _prose("### Approve the loss", LOSS)
            yield "code", "await approve_again(run, APPROVE)"


def _of_step(spec: StepSpec, options: Sequence[str]) -> Iterator[str]:
    about = spec.about
    of = [option for option in options if option in spec.options]
    if of and len(of) < len(options):
        yield f"**Option {' or '.join(of)} only.** With another one the cell says so and does nothing."
    services = f" ({', '.join(spec.services)})" if isinstance(spec, ServicesStep) else ""
    yield f"{about.does.rstrip('.')}{services}. *Kept*: {about.preserves} *Takes*: {roughly(spec.estimate)}."
    yield f"*Do*: run the cell. *Expect*: {about.expect} *If not*: {about.if_not}"


def _is_of(step: StepSpec, options: Sequence[str]) -> bool:
    return not step.options or bool(set(step.options) & set(options))


def _closing(plan: Plan, kind: RollbackType, steps: Mapping[str, StepSpec]) -> Iterator[Cell]:
    if any(step.about.on_table or isinstance(step, RestoringStep) for step in steps.values()):
        yield "prose", _prose("## Before and after", COMPARE)
        yield "code", "await compare(run)"
    titles = [f"- {plan.checks[check].title}." for check in kind.checks]
    yield "prose", _prose("## Verify", f"*Do*: run the cell. *Expect*: PASS in every row. {_if_not(plan, kind)}", *titles)
    yield "code", "await verify(run)"
    if kind.escalates_to:
        yield "prose", _prose(f"## Where it is not enough: {_one_line(plan.types[kind.escalates_to].title)}", ESCALATE)
        yield "code", "await escalate(run)"
    yield "prose", _prose("## How long each step took", TIMELINE)
    yield "code", "timeline(run)"
    yield "prose", _prose("## Close", CLOSE)
    yield "code", "await close(run)"


def _if_not(plan: Plan, kind: RollbackType) -> str:
    stops = "*If not*: the run is not verified, and stops; each row says what was seen."
    if not kind.escalates_to:
        return stops
    called_for = ", ".join(f"“{plan.checks[check].title}”" for check in kind.escalates_on)
    return f"*If not*: where {called_for} fails, the next cell goes on; anything else stops here."


def _prose(heading: str, *paragraphs: str) -> str:
    """A heading and its paragraphs, filled; those of a list follow one another."""
    text = heading
    for before, paragraph in zip(("", *paragraphs), paragraphs, strict=False):
        listed = paragraph.startswith("- ")
        words = _one_line(paragraph).replace(" %%", NO_BREAK + "%%")  # at the start of a line that would begin a cell
        indent = "  " if listed else ""
        filled = textwrap.fill(words, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        text += ("\n" if listed and before.startswith("- ") else "\n\n") + filled
    return text


NO_BREAK = "\N{NO-BREAK SPACE}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
