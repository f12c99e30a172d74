"""The notebook of a rollback, rendered from its plan: the steps of a type, or of one option of it, and no others."""

from __future__ import annotations

import json
import re
import textwrap
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runbook_lib.checks.prerequisites import MARK, NOTEBOOKS
from runbook_lib.config.installed import packaged
from runbook_lib.config.plan import DatabaseStep, Plan, RestoringStep, RollbackType, ServicesStep, StepSpec
from runbook_lib.errors import ParametersError
from runbook_lib.run.lifecycle import notebook_of
from runbook_lib.ui.estimates import outage, planned, roughly

if TYPE_CHECKING:
    from nbformat import NotebookNode

PICTURES = packaged("headless", "pictures")  # of healthy results
TARGET = "rehearsal"  # of a notebook that was rendered for no target
WIDTH = 118  # characters of a line of prose
PARAMETERS: Mapping[str, object] = {"jupyter": {"source_hidden": True}, "tags": ["parameters"]}  # the cell's metadata
Cell = tuple[Literal["prose", "parameters", "code"], str]


def rendered(plan: Plan, type_name: str, option: str, plan_file: str, target: str = TARGET) -> NotebookNode:
    """Return the notebook of a rollback type, with the steps of one option, or of all where it is "". Read-only.

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
        if pictures := pictures_in(text):
            cells[-1].attachments = pictures
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook: NotebookNode = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, MARK: {"type": name}})
    return notebook


def pictures_in(text: str) -> dict[str, dict[str, str]]:
    """The pictures that a cell's text names, as a notebook attaches them: name -> type -> Base64. Read-only."""
    names = re.findall(r"\(attachment:(\S+)\)", text)
    return {name: {"image/png": b64encode((PICTURES / name).read_bytes()).decode()} for name in names}


def for_all_plans(name: str) -> Path | None:
    """The notebook of that name that serves all plans, such as the triage; None if there is none. Read-only."""
    file = NOTEBOOKS / f"{name}.ipynb"
    if not file.exists() or MARK in json.loads(file.read_text(encoding="utf-8"))["metadata"]:
        return None
    return file


def all_for_all_plans() -> list[Path]:
    """The notebooks that serve all plans, by name. Read-only."""
    return [file for file in sorted(NOTEBOOKS.glob("*.ipynb")) if for_all_plans(file.stem)]


def written(plan: Plan, type_name: str, option: str, plan_file: str, into: Path) -> Path:
    """Write the notebook of a rollback, without its text, to `into`; one option of several is part of its name."""
    import nbformat

    of = f"-option-{option}" if option and len(plan.types[plan.carried_out(type_name)].options) > 1 else ""
    file = into / f"{name_of(plan, type_name)}{of}.ipynb"
    nbformat.write(rendered(plan, type_name, option, plan_file), file)
    return file


def name_of(plan: Plan, type_name: str) -> str:
    """The name of the notebook that executes a type, or the type in its place. Read-only."""
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
    yield "prose", _prose("## Open the run", *OPEN)
    rest = [*_opening(kind, options, steps), *_before(plan, name, options), *_steps(steps, options)]
    rest += _closing(plan, kind, steps)
    yield "code", "\n".join([*_imports(text for role, text in rest if role == "code"), "", *_opened(name, options)])
    yield from rest


HOW = (
    "- **How to use it**: Shift+Enter runs a cell and goes to the next; *Run All* waits at each question. *Expect* gives "
    "the planned time; the preview gives that of the last rehearsal, if known.",
    "- **If a cell fails**, the cells below do not run. A failed step asks what to do next: retry, undo, escalate, "
    "troubleshoot or stop. Running a cell again never repeats a finished step. In commands, RUN is the run folder "
    "`outputs/…` of the run that the banner names.",
)
OPEN = (
    "- **Expect**, in about 2 s: a banner with the target's name and colour. Read both.",
    "- **If it fails**: nothing was touched. Correct the key and file that the error names, then run the cell again.",
)
STATUS = (
    "Run this cell again whenever the page or the kernel was lost. Then resume at the first step that is not done.",
    "- **Expect**, at once: each step and its state, from the journal. In a terminal: `runbook status RUN`.",
)
OPTION = (
    "- **Expect**, in a few seconds: what each option changes and loses, and a question; then one line with your choice.",
    '- **To choose again**: `await choose(run, "OPTION", OPTION, again=True)`. Cells of other options do nothing.',
)
CHOICES = (
    "Choose, or keep what the plan says. Headless, CHOICES gives the answers (`STRATEGY=swap, EDITED=keep`).",
    "- **Expect**, at once: one line for each choice. To choose again: `await choose_details(run, CHOICES, again=True)`.",
)
PREREQUISITES = (
    "- **Expect**, in a few seconds: PASS in every row.",
    "- **If not**: nothing was touched. Fix what the row names, then run the cell again.",
)
PREVIEW = (
    "Read what each step changes, loses and locks, and how it is undone.",
    "- **Expect**, in seconds, on large tables in minutes: a table, and above it the digest to approve.",
    "- **If it fails**: nothing was touched. Fix what the error names, then run the cell again.",
)
LOOK = (
    "- **Expect**, in a few seconds: screenshots for the later comparison. What is broken now shows as FAIL; that stops "
    "nothing.",
)
NOTIFY = ("- **Expect**, at once: the text, and its recipients. Send it yourself; the runbook sends nothing.",)
APPROVE = (
    "- **Expect**, in about 1 s after your answer: one line APPROVED, as in the example.",
    "- **If not**: nothing was touched, and no step below acts. Run `await preview(run)` again, then this cell.",
)
APPROVED_PICTURE = (
    "![Healthy result, an example: the question with the digest, then the line APPROVED](attachment:approved.png)"
)
LOSS = (
    "**The loss is counted only now.** Read the new preview and approve it. Headless, run again with its digest.",
    "- **Expect**: one line APPROVED. If nothing has drifted, the first approval holds and nothing is asked.",
    "- **If not**: no service was stopped. Run the cell again, or undo the restore with the call above.",
)
VERIFY = ("- **Expect**, in seconds, on large tables in minutes: PASS in every row.",)
COMPARE = (
    "- **Expect**, in about 1 s: the row counts that the preview announced.",
    "- **If they differ**: this cell changes nothing. `runbook undo RUN` previews how to put the data back.",
)
ESCALATE = (
    "- **Expect**, at once: “No escalation is needed”, or the next notebook and the RUN for it. Finished steps stay.",
)
TIMELINE = ("- **Expect**, at once: the time of each step next to its budget, as a table and a chart.",)
CLOSE = (
    "- **Expect**, in about 1 s: VERIFIED, or the notebook in which the run continues. Report and log are in the run "
    "folder.",
    "- **If not**: the rollback is not verified. Fix what the error names, run *Verify* again, then this cell.",
    "- **Next**: the notebook 05-close-out. `runbook purge RUN` previews the pending cleanup.",
)
VERIFIED_PICTURE = "![Healthy result, an example: PASS in every row, and the outcome VERIFIED](attachment:verified.png)"


def _about(plan: Plan, name: str, options: Sequence[str]) -> Iterator[str]:
    """What is rolled back, and for each option how many steps there are and how long they should take."""
    yield f"{plan.feature}: {plan.title}. Every check that is possible beforehand runs before the first change."
    for option, steps in _by_option(plan, name, options).items():
        described = f"Option {option}, {plan.types[name].options[option]}: " if option else ""
        yield f"- {described}{planned(steps)}."
    yield from HOW


def _by_option(plan: Plan, name: str, options: Sequence[str]) -> dict[str, list[StepSpec]]:
    return {option: [plan.steps[step] for step in plan.steps_of(name, option)] for option in options or [""]}


def _parameters(plan_file: str, target: str, options: Sequence[str], steps: Iterable[StepSpec]) -> Iterator[str]:
    yield f"PLAN: str = {_quoted(plan_file)}  # the plan of the rollback"
    yield f"TARGET: str = {_quoted(target)}  # a target file, or the name of one below parameters/"
    if options:
        which = "the one that this notebook is for" if len(options) == 1 else "one of those above"
        yield f"OPTION: str = {_quoted(options[0])}  # what happens to the data: {which}"
    if any(isinstance(step, DatabaseStep) for step in steps):
        yield 'CHOICES: str = ""  # what differs from the plan, by name and value: STRATEGY, EDITED, REMOVAL, FILL, …'
    yield 'OPERATOR: str = ""  # who is at the keyboard'
    yield 'REASON: str = ""  # why, for the log'
    yield 'INCIDENT: str = ""  # the incident\'s number'
    yield 'RUN: str = ""  # the folder of a run to resume; empty begins a new one'
    yield 'APPROVE: str = ""  # headless: the digest of the preview that was approved'
    yield 'WAIVE: str = ""  # break glass, "name: reason", for a check or a step that may fail'


def _imports(calls: Iterable[str]) -> list[str]:
    """The lines that import the functions which begin these cells, and `undo`, which the prose names."""
    names = {found[1] for call in calls if (found := CALLED.match(call))} | {"open_run", "undo"}
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
    yield "prose", _prose("### The state of the run", *STATUS)
    yield "code", "status(run)"
    if len(options) > 1:
        described = [f"- {option}: {kind.options[option]}." for option in options]
        yield "prose", _prose("### What happens to the data", *OPTION, "The options:", *described)
        yield "code", 'option = await choose(run, "OPTION", OPTION)'
    if any(isinstance(step, DatabaseStep) for step in steps.values()):
        yield "prose", _prose("### Other choices", *CHOICES)
        yield "code", "choices = await choose_details(run, CHOICES)"


def _before(plan: Plan, name: str, options: Sequence[str]) -> Iterator[Cell]:
    yield "prose", _prose("## Before the first change\n\n### Prerequisites", *PREREQUISITES)
    yield "code", "await check_prerequisites(run)"
    yield "prose", _prose("### Preview", *PREVIEW)
    yield "code", "await preview(run)"
    if any(plan.checks[check].opens for check in plan.types[name].checks):
        yield "prose", _prose("### The page as users see it now", *LOOK)
        yield "code", "await look_before(run)"
    yield "prose", _prose("### Message to the team: it begins", *NOTIFY)
    yield "code", 'await notify(run, "start")'
    stops = any(map(outage, _by_option(plan, name, options).values()))
    warning = f"**After this approval, the steps below change the target{' and stop services' if stops else ''}.**"
    yield "prose", _prose("### The approval", warning, *APPROVE, APPROVED_PICTURE)
    yield "code", "await approve(run, APPROVE)"


def _steps(steps: Mapping[str, StepSpec], options: Sequence[str]) -> Iterator[Cell]:
    yield "prose", "## The steps"
    for name, spec in steps.items():
        yield "prose", _prose(f"### {_one_line(spec.title)}", *_of_step(name, steps, options))
        yield "code", f"await apply(run, {_quoted(name)})"
        if isinstance(spec, RestoringStep):
            yield "prose", _prose("### Approve the loss", *LOSS)
            yield "code", "await approve_again(run, APPROVE)"


def _of_step(name: str, steps: Mapping[str, StepSpec], options: Sequence[str]) -> Iterator[str]:
    spec = steps[name]
    about = spec.about
    of = [option for option in options if option in spec.options]
    if of and len(of) < len(options):
        yield f"**Option {' or '.join(of)} only.** With another option this cell says so and does nothing."
    services = f" ({', '.join(spec.services)})" if isinstance(spec, ServicesStep) else ""
    yield f"{about.does.rstrip('.')}{services}. {about.preserves}"
    yield f"- **Expect**, in {roughly(spec.estimate)}: {about.expect}"
    yield f"- **If it fails**: {_services_then(name, steps)} {about.if_not} {_next_command(name, steps)}"


def _services_then(name: str, steps: Mapping[str, StepSpec]) -> str:
    """The state of the services where a step has failed, by its place among the steps. Pure."""
    match _place(name, steps):
        case "before":
            return "No service was stopped."
        case "within":
            return "Stopped services stay down."
        case "after":
            return "The services were started again."
    return "Some services may be down."


def _next_command(name: str, steps: Mapping[str, StepSpec]) -> str:
    if _place(name, steps) in ("within", "edge"):
        return "`runbook service-back RUN` shows the shortest way to running services."
    if steps[name].about.reversible:
        return f"To undo it: `await undo(run, {_quoted(name)})`."
    return "`runbook status RUN` shows each step."


def _place(name: str, steps: Mapping[str, StepSpec]) -> Literal["before", "edge", "within", "after"]:
    """Where a step is in the outage of the rollback; a step that stops or starts services is at its edge. Pure."""
    abouts = [step.about for step in steps.values()]
    first = next((n for n, about in enumerate(abouts) if about.starts_on_undo), len(abouts))
    last = max((n for n, about in enumerate(abouts) if about.starts), default=-1)
    number, about = list(steps).index(name), steps[name].about
    if number < first:
        return "before"
    if about.starts or about.starts_on_undo:
        return "edge"
    return "within" if number < last else "after"


def _is_of(step: StepSpec, options: Sequence[str]) -> bool:
    return not step.options or bool(set(step.options) & set(options))


def _closing(plan: Plan, kind: RollbackType, steps: Mapping[str, StepSpec]) -> Iterator[Cell]:
    if any(step.about.on_table or isinstance(step, RestoringStep) for step in steps.values()):
        yield "prose", _prose("## Before and after", *COMPARE)
        yield "code", "await compare(run)"
    titles = [f"- {plan.checks[check].title}." for check in kind.checks]
    yield "prose", _prose("## Verify", *VERIFY, *_if_not(plan, kind), "The checks:", *titles)
    yield "code", "await verify(run)"
    if kind.escalates_to:
        yield "prose", _prose(f"## If this is not enough: {_one_line(plan.types[kind.escalates_to].title)}", *ESCALATE)
        yield "code", "await escalate(run)"
    yield "prose", _prose("## How long each step took", *TIMELINE)
    yield "code", "timeline(run)"
    yield "prose", _prose("## Close", *CLOSE, VERIFIED_PICTURE)
    yield "code", "await close(run)"


def _if_not(plan: Plan, kind: RollbackType) -> Iterator[str]:
    if kind.escalates_to:
        called_for = ", ".join(f"“{plan.checks[check].title}”" for check in kind.escalates_on)
        yield f"- **If {called_for} fails**: the rollback is not enough. Run the next cell; it continues the rollback."
    other = "any other check fails" if kind.escalates_to else "not"
    yield (
        f"- **If {other}**: the rollback is not verified, and what was changed stays. Fix what the row names and run the "
        "cell again. The notebook 07-troubleshooting looks for known causes; `runbook undo RUN` previews an undo."
    )


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
