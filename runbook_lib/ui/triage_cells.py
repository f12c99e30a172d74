"""The cells of a triage: the symptoms, a closer look, a longer one, what they recommend, and what is chosen then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from IPython.display import display as show

from runbook_lib.config.plan import DatabaseStep, Plan
from runbook_lib.errors import Declined, ParametersError, RunbookError
from runbook_lib.results import Result
from runbook_lib.run import Run, approval, lifecycle
from runbook_lib.steps import Step, step_named
from runbook_lib.triage import decision_matrix
from runbook_lib.triage.decision_matrix import Recommendation, RowFound, Word
from runbook_lib.ui import display, estimates, failure_menu, next_notebook, widgets
from runbook_lib.ui.cells import journaled
from runbook_lib.ui.display import Shown
from runbook_lib.ui.step_runner import in_background
from runbook_lib.ui.widgets import asked, attended, choice, reason


@journaled
async def diagnose(run: Run) -> Shown:
    """Look for each of the plan's troubles: what was seen, and what would mend it. Read-only."""
    plan = run.context.plan
    seen = await in_background(
        run, "Looking for troubles", lambda: run.observe("diagnosis", decision_matrix.checks_of_troubles(plan))
    )
    found = decision_matrix.diagnose(plan, seen)
    there = [each.name for each in found if each.there == "yes"]
    run.journal.append("diagnosed", troubles=there, text="; ".join(plan.troubles[name].title for name in there) or "none")
    return display.diagnoses(plan, found)


@journaled
async def choose_trouble(run: Run, value: str = "") -> Shown:
    """Choose the trouble to mend: by the parameter, else the one that was found alone; a run that has a type keeps it."""
    plan = run.context.plan
    if not run.context.type:
        if not plan.troubles:
            raise Declined(
                "The plan names no trouble that could be mended.",
                where=str(run.folder.path),
                state="Nothing was changed.",
                safe_next="Add troubles to the plan, or choose a rollback type in the triage.",
            )
        found: list[str] = next((e.data["troubles"] for e in reversed(run.journal.events()) if e.kind == "diagnosed"), [])
        options = {name: trouble.title for name, trouble in plan.troubles.items()}
        chosen, by = await choice("TROUBLE", options, value or (found[0] if len(found) == 1 else ""))
        run.choose("TYPE", plan.carried_out(plan.troubles[chosen].fix), by)
    kind, notebook = plan.types[run.context.type], lifecycle.notebook_of(plan, run.context.type)
    if notebook != failure_menu.TROUBLESHOOTING:
        if next_notebook.is_served():
            show(next_notebook.opened(run))
        raise Declined(
            f"{kind.title} is carried out by the notebook {notebook}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Open {notebook}, and give it RUN = {run.folder.label}.",
        )
    return display.line(f"To be carried out: {kind.title}")


@journaled
async def fix(run: Run) -> Shown:
    """Carry out every step of the run's type, one after another, each confirmed where it must be. Changes the target."""
    done = []
    for name in run.steps:
        await widgets.confirmed(run, name)
        done.append(display.done(await failure_menu.applied(run, name)))
    return display.side_by_side(*done)


YES_OR_NO: dict[str, Literal["yes", "no"]] = {"yes": "yes", "no": "no"}


def words(run: Run) -> dict[str, Word]:
    """What was last said of each symptom in this run, against the probes or back to them. Read-only."""
    said = [event.data for event in run.journal.events() if event.kind == "symptom"]
    return {data["symptom"]: Word(data["value"], data["by"]) for data in said}


def require_known(plan: Plan, given: Mapping[str, str]) -> None:
    """See that a parameter names symptoms of the plan, each with yes or no. Pure.

    Raises:
        ParametersError: It does not.
    """
    names = [row.symptom for row in plan.decision_matrix]
    if wrong := [f"{name}={value}" for name, value in given.items() if name not in names or value not in YES_OR_NO]:
        raise ParametersError(
            f"SYMPTOMS cannot be read: {', '.join(wrong)}.",
            state="Nothing was touched.",
            safe_next=f"Give yes or no for any of: {', '.join(names)}.",
        )


def scored(run: Run, found: Sequence[Result]) -> Recommendation:
    """The matrix by what the probes found and what was said against them; journaled."""
    advice = decision_matrix.recommend(run.context.plan, found, words(run))
    symptom = advice.row.symptom if advice.row else ""
    run.journal.append("recommended", type=advice.type, reason=advice.reason, symptom=symptom)
    return advice


def by_probes(run: Run, found: Sequence[Result]) -> dict[str, str]:
    """What the probes alone say of each symptom. Pure."""
    return {row.row.symptom: row.matches for row in decision_matrix.recommend(run.context.plan, found).rows}


def say(run: Run, found: Sequence[Result], symptom: str, value: str, by: str) -> None:
    """Journal what somebody says of a symptom, and what the probes say of it."""
    run.journal.append("symptom", symptom=symptom, value=value, probes=by_probes(run, found)[symptom], by=by)


class Checkboxes:
    """A checkbox for each symptom, and the matrix below them, which follows every tick until the type is chosen."""

    def __init__(self, run: Run, found: Sequence[Result]) -> None:
        self.run, self.found = run, found
        self._advice = scored(run, found)
        self._by_probes = by_probes(run, found)
        self._boxes: dict[str, Any] = {}
        self._box: Any = None
        self._ticks: Any = None
        self._matrix: Any = None

    def show(self) -> None:
        """Show both; each change is journaled with who made it."""
        import ipywidgets as widgets

        self._boxes = {row.row.symptom: self._checkbox(row) for row in self._advice.rows}
        label = widgets.Label("Symptoms, ticked by the probes. Change what you see otherwise; it is kept with your name:")
        self._box = widgets.VBox([label, *self._boxes.values()])
        self._ticks = show(self._box, display_id=True)
        self._matrix = show(display.recommendation(self._advice, self.run.context.plan), display_id=True)

    def settle(self) -> None:
        """Leave one static line instead of the checkboxes."""
        self._box.close()
        self._ticks.update(display.ticks(self._advice))

    def _checkbox(self, row: RowFound) -> Any:
        import ipywidgets as widgets

        symptom = row.row.symptom
        said = f", {row.matches} by {row.by}" if row.by else ""
        checkbox = widgets.Checkbox(
            value=row.matches == "yes",
            description=f"{symptom} ({self._by_probes[symptom]} by the probes{said})",
            indent=False,
            layout={"width": "max-content"},
        )
        checkbox.observe(lambda change: self._changed(symptom, bool(change["new"])), "value")
        return checkbox

    def _changed(self, symptom: str, ticked: bool) -> None:
        """Take a tick in, and score again.

        The checkbox is replaced by a new one: while a cell waits, a front end sends only the first change of a widget.
        """
        say(self.run, self.found, symptom, "yes" if ticked else "no", self.run.context.operator or "operator")
        self._advice = scored(self.run, self.found)
        self._matrix.update(display.recommendation(self._advice, self.run.context.plan))
        row = next(row for row in self._advice.rows if row.row.symptom == symptom)
        self._boxes[symptom] = self._checkbox(row)
        self._box.children = [self._box.children[0], *self._boxes.values()]
        self._boxes[symptom].focus()


_shown: dict[str, Checkboxes] = {}  # run folder -> what is shown of it in this kernel


def tick(run: Run, found: Sequence[Result]) -> None:
    """Show the symptoms of a run that has no type yet as checkboxes."""
    boxes = _shown[run.folder.id] = Checkboxes(run, found)
    boxes.show()


def settle(run: Run) -> None:
    """Leave one static line of a run's checkboxes, where any are shown: its type is chosen."""
    if boxes := _shown.pop(run.folder.id, None):
        boxes.settle()


@journaled
async def symptoms(run: Run, values: str = "") -> Shown | None:
    """Probe the symptoms of the plan's decision matrix and say which rollback they ask for. Read-only.

    A person can tick them otherwise until the type is chosen; headless, `values` ("Frontend errors=no, …") does.
    """
    plan, given = run.context.plan, approval.read(values)
    require_known(plan, given)
    found = await in_background(
        run, "Probing the symptoms", lambda: run.observe("triage", decision_matrix.checks_needed(plan))
    )
    seen = display.results(found, "Symptoms")
    if attended() and not run.context.type:
        show(seen)
        tick(run, found)
        return None
    if not attended():
        for symptom, value in given.items():
            say(run, found, symptom, value, "parameter")
    advice = scored(run, found)
    return display.side_by_side(seen, display.ticks(advice), display.recommendation(advice, plan))


@journaled
async def investigate(run: Run) -> Shown:
    """Where the matrix says “investigate first”: the findings that confirm the rollback, or clear it. Read-only."""
    row = decision_matrix.row_for(run, "investigate first")
    if row is None:
        return display.line("No investigation is called for.")
    found, verdict = await in_background(
        run, f"Investigating “{row.symptom}”", lambda: decision_matrix.investigate(run, row)
    )
    return display.side_by_side(display.results(found, f"Findings on “{row.symptom}”"), display.advice(verdict))


@journaled
async def monitor(run: Run, values: str = "") -> Shown:
    """Where the matrix says “monitor”: its checks again and again, shown as they come, until they tell. Read-only.

    `values` ("EVERY=5, LASTS=60, FAILURES=2") says what differs from the plan.
    """
    row = decision_matrix.row_for(run, "monitor")
    if row is None:
        return display.line("No monitoring is called for.")
    planned = decision_matrix.planned(row, approval.read(values))
    handle = show(display.line(f"Watching “{row.symptom}” every {planned.every} s for {planned.lasts} s …"), display_id=True)
    shown = display.line("")
    async for watch in decision_matrix.watch(run, row, planned):
        shown = display.watch(watch)
        if handle is not None:
            handle.update(shown)
    assert watch.verdict is not None
    return display.advice(watch.verdict) if handle is not None else shown


def triaged(run: Run) -> bool:
    """Whether the symptoms were probed in this run. Read-only."""
    return any(event.kind == "recommended" for event in run.journal.events())


def recommended(run: Run) -> str:
    """The rollback type that the triage of this run recommends by now, "" for none. Read-only."""
    return next((e.data["type"] for e in reversed(run.journal.events()) if e.kind == "recommended"), "")


Counted = Mapping[str, tuple[str, str]]  # each option: what it would change, and what it would lose


def counted(run: Run) -> Counted:
    """What each option of the run's type would change and lose, in numbers where those come quickly. Read-only."""
    found = {}
    for option in run.context.plan.types[run.context.type].options:
        found[option] = ("nothing in the data", "nothing")
        for name in run.context.plan.steps_of(run.context.type, option):
            found[option] = _counted(step_named(run.context, name)) or found[option]
    return found


def in_numbers(run: Run, found: Counted) -> Shown:
    """Each option of the run's type with what it would change and lose. Pure."""
    options = run.context.plan.types[run.context.type].options
    rows = [[option, text, *found[option]] for option, text in options.items()]
    return display.table("What each option would change and lose", ["option", "", "would change", "would lose"], rows)


def _counted(step: Step) -> tuple[str, str] | None:
    try:
        return step.in_brief()
    except RunbookError as error:
        return f"not counted: {error.what}", "not counted; the preview will"


@journaled
async def choose(run: Run, name: str, value: str, override: str = "", *, again: bool = False) -> str:
    """Choose the rollback TYPE or the OPTION, and leave one static line that says what and by whom.

    Without a `value`, the TYPE that triage recommends is suggested, also where that changes meanwhile; headless it is taken.
    A type other than that needs a reason: typed, or headless as `override`.
    """
    match name:
        case "TYPE":
            return await _type(run, value, override, again)
        case "OPTION":
            return await _option(run, value, again)
    raise ParametersError(f"There is no choice named {name}.", state="Nothing was changed.", safe_next="TYPE or OPTION.")


@journaled
async def choose_details(run: Run, values: str, *, again: bool = False) -> dict[str, str]:
    """Choose what else the option leaves open; headless, `values` ("NAME=value, …") says what differs from the plan."""
    wanted = approval.read(values)
    approval.require_known(wanted, run.details())
    made = {}
    for name, (options, planned) in run.details().items():
        if name not in wanted and not run.asks_for(name):
            continue
        if before := widgets.chosen_before(run, name, options, again):
            made[name] = before
            continue
        with asked(run, name):
            made[name], by = await choice(name, options, wanted.get(name, planned))
        run.choose(name, made[name], by)
    return made


async def _type(run: Run, value: str, override: str, again: bool) -> str:
    plan = run.context.plan
    if before := widgets.chosen_before(run, "TYPE", plan.rollbacks, again):
        return before
    question, consequences = "which rollback is executed?", {name: consequence(plan, name) for name in plan.rollbacks}
    with asked(run, "TYPE"):
        chosen, by = await choice(
            "TYPE",
            plan.rollbacks,
            value or recommended(run),
            lambda: value or recommended(run),
            question=question,
            consequences=consequences,
        )
    if chosen != (advised := recommended(run)) and triaged(run):
        question = f"Why {chosen} and not what triage recommends ({advised or 'nothing'})?"
        run.override(advised, chosen, await reason("OVERRIDE", question, override))
    carried_out = plan.carried_out(chosen)
    if carried_out != chosen:
        why = f"{plan.types[chosen].because} By the compatibility table, {plan.alone(chosen)}."
        show(display.line(f"{plan.types[chosen].title} is carried out as {carried_out}: {why}"))
    run.choose("TYPE", carried_out, by)
    settle(run)
    return chosen


def consequence(plan: Plan, name: str) -> str:
    """How long a type takes, how long services are down, and whether data changes, in a line. Pure."""
    kind = plan.types[name]
    if kind.by_hand:
        return f"By hand: {kind.by_hand}"
    done = plan.carried_out(name)
    of = estimates.ways(plan, done)
    data = any(isinstance(step, DatabaseStep) for steps in of for step in steps)
    loses = "Data changes: what users lose is counted per option, next." if data else "No data changes, so users lose none."
    return f"{f'Executed as {done}. ' * (done != name)}{estimates.planned(*of)}. {loses}"


async def _option(run: Run, value: str, again: bool) -> str:
    plan, options = run.context.plan, run.context.plan.types[run.context.type].options
    consequences = {}
    if attended() and len(options) > 1:
        found = await in_background(run, "Counting what each option would change", lambda: counted(run))
        show(in_numbers(run, found))
        for option, (_, loses) in found.items():
            steps = [plan.steps[name] for name in plan.steps_of(run.context.type, option)]
            consequences[option] = f"{estimates.planned(steps)}. Users lose: {loses}."
    if before := widgets.chosen_before(run, "OPTION", options, again):
        return before
    planned = next(iter(options)) if len(options) == 1 else value
    with asked(run, "OPTION"):
        chosen, by = await choice(
            "OPTION", options, planned, question="what happens to the data?", consequences=consequences
        )
    run.choose("OPTION", chosen, by)
    return chosen
