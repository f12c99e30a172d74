"""The cells of a triage: symptoms, investigation, monitoring, and the choice of the rollback."""

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
    """Look for each of the plan's troubles, and show what was seen and what fixes it. Read-only.

    Example:
        >>> run = await open_run(PLAN, TARGET, operator="Dana", reason="No pictures", incident="INC-7")
        … rehearsal (REHEARSAL) …
        >>> await diagnose(run)
        Troubleshooting
          present | trouble | what the checks found | usual cause | fix
        …
          no | Database restore fails | …
        …
    """
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
    """Choose the trouble to fix: the parameter's, else the only one found; a run that has a type keeps it. Read-only.

    Example:
        >>> await choose_trouble(run, "restore-blocked")
        TROUBLE = restore-blocked (parameter)
        Chosen fix: End the sessions that keep the database from being restored
    """
    plan = run.context.plan
    if not run.context.type:
        if not plan.troubles:
            raise Declined(
                "The plan names no trouble that could be fixed.",
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
            f"{kind.title} is executed by the notebook {notebook}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Open {notebook}, and give it RUN = {run.folder.label}.",
        )
    return display.line(f"Chosen fix: {kind.title}")


@journaled
async def fix(run: Run) -> Shown:
    """Execute every step of the run's type, each confirmed where required. Changes the target.

    Example:
        >>> shown = await preview(run)
        >>> await approve(run, run.state.previewed)
        Execute preview … on rehearsal? … (parameter)
        APPROVED …
        >>> await fix(run)
        End …: done (… s, planned … s): …
    """
    done = []
    for name in run.steps:
        await widgets.confirmed(run, name)
        done.append(display.done(await failure_menu.applied(run, name)))
    return display.side_by_side(*done)


YES_OR_NO: dict[str, Literal["yes", "no"]] = {"yes": "yes", "no": "no"}


def words(run: Run) -> dict[str, Word]:
    """What a person last said of each symptom in this run. Read-only."""
    said = [event.data for event in run.journal.events() if event.kind == "symptom"]
    return {data["symptom"]: Word(data["value"], data["by"]) for data in said}


def require_known(plan: Plan, given: Mapping[str, str]) -> None:
    """Require that a parameter names symptoms of the plan, each with yes or no. Pure.

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
    """Score the matrix by the probes and by what people said; journaled."""
    advice = decision_matrix.recommend(run.context.plan, found, words(run))
    symptom = advice.row.symptom if advice.row else ""
    run.journal.append("recommended", type=advice.type, reason=advice.reason, symptom=symptom)
    return advice


def by_probes(run: Run, found: Sequence[Result]) -> dict[str, str]:
    """What the probes alone report of each symptom. Pure."""
    return {row.row.symptom: row.matches for row in decision_matrix.recommend(run.context.plan, found).rows}


def say(run: Run, found: Sequence[Result], symptom: str, value: str, by: str) -> None:
    """Journal what somebody says of a symptom, and what the probes report."""
    run.journal.append("symptom", symptom=symptom, value=value, probes=by_probes(run, found)[symptom], by=by)


class Checkboxes:
    """A checkbox for each symptom, and below them the matrix, which follows every tick until the type is chosen."""

    def __init__(self, run: Run, found: Sequence[Result]) -> None:
        self.run, self.found = run, found
        self._advice = scored(run, found)
        self._by_probes = by_probes(run, found)
        self._boxes: dict[str, Any] = {}
        self._box: Any = None
        self._ticks: Any = None
        self._matrix: Any = None

    def show(self) -> None:
        """Show both; each change is journaled with its author."""
        import ipywidgets as widgets

        self._boxes = {row.row.symptom: self._checkbox(row) for row in self._advice.rows}
        label = widgets.Label(
            "Symptoms, ticked by the probes. Correct them by what you see; each change is recorded with your name:"
        )
        self._box = widgets.VBox([label, *self._boxes.values()])
        self._ticks = show(self._box, display_id=True)
        self._matrix = show(display.recommendation(self._advice, self.run.context.plan), display_id=True)

    def settle(self) -> None:
        """Replace the checkboxes by one static line."""
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
        """Record a tick, and score again.

        The checkbox is replaced by a new one: while a cell waits, a front end sends only the first change of a widget.
        """
        say(self.run, self.found, symptom, "yes" if ticked else "no", self.run.context.operator or "operator")
        self._advice = scored(self.run, self.found)
        self._matrix.update(display.recommendation(self._advice, self.run.context.plan))
        row = next(row for row in self._advice.rows if row.row.symptom == symptom)
        self._boxes[symptom] = self._checkbox(row)
        self._box.children = [self._box.children[0], *self._boxes.values()]
        self._boxes[symptom].focus()


_shown: dict[str, Checkboxes] = {}  # run folder -> its checkboxes in this kernel


def tick(run: Run, found: Sequence[Result]) -> None:
    """Show the symptoms of a run that has no type yet as checkboxes."""
    boxes = _shown[run.folder.id] = Checkboxes(run, found)
    boxes.show()


def settle(run: Run) -> None:
    """Replace a run's checkboxes by one static line, as its type is chosen."""
    if boxes := _shown.pop(run.folder.id, None):
        boxes.settle()


@journaled
async def symptoms(run: Run, values: str = "") -> Shown | None:
    """Probe the symptoms of the plan's decision matrix, and recommend a rollback. Read-only.

    A person can correct the ticks until the type is chosen; headless, `values` does ("Frontend errors=no, …").

    Example:
        >>> await symptoms(run)
        Symptoms: 7 of 9 PASS
          result | check | what was found
          ✘ FAIL | …
        Decision matrix
          matches | symptom | severity | action | rollback type | seen
        …
          ► yes | All media missing | critical | immediate | full | …
        …
        Recommended: full. All media missing (critical, immediate): …
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
    """Investigate if the matrix says “investigate first”; the findings confirm the rollback or rule it out. Read-only.

    Example:
        >>> await investigate(run)
        No investigation is needed.
    """
    row = decision_matrix.row_for(run, "investigate first")
    if row is None:
        return display.line("No investigation is needed.")
    found, verdict = await in_background(
        run, f"Investigating “{row.symptom}”", lambda: decision_matrix.investigate(run, row)
    )
    return display.side_by_side(display.results(found, f"Findings on “{row.symptom}”"), display.advice(verdict))


@journaled
async def monitor(run: Run, values: str = "") -> Shown:
    """Repeat the checks of a symptom if the matrix says “monitor”, until they decide. Read-only.

    `values` replaces figures of the plan ("EVERY=5, LASTS=60, FAILURES=2").

    Example:
        >>> await monitor(run, "EVERY=5, LASTS=60")
        No monitoring is needed.
    """
    row = decision_matrix.row_for(run, "monitor")
    if row is None:
        return display.line("No monitoring is needed.")
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
    """The rollback type that the triage of this run recommends, "" for none. Read-only.

    Example:
        >>> recommended(run)
        'full'
    """
    return next((e.data["type"] for e in reversed(run.journal.events()) if e.kind == "recommended"), "")


Counted = Mapping[str, tuple[str, str]]  # each option: what it would change, and what it would lose


def counted(run: Run) -> Counted:
    """What each option of the run's type would change and lose, in numbers if counted quickly. Read-only."""
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
    """Choose the rollback TYPE or the OPTION, and leave one line that names the choice and who made it.

    Without a `value`, the TYPE that triage recommends is suggested, even if it changes meanwhile; headless it is taken.
    Another type needs a reason: typed, or headless as `override`. Read-only.

    Example:
        >>> await choose(run, "TYPE", "")
        TYPE = full (parameter)
        'full'
        >>> await choose(run, "OPTION", "A")
        OPTION = A (parameter)
        'A'
    """
    match name:
        case "TYPE":
            return await _type(run, value, override, again)
        case "OPTION":
            return await _option(run, value, again)
    raise ParametersError(f"There is no choice named {name}.", state="Nothing was changed.", safe_next="Use TYPE or OPTION.")


@journaled
async def choose_details(run: Run, values: str, *, again: bool = False) -> dict[str, str]:
    """Choose what the option leaves open; headless, `values` replaces choices of the plan ("NAME=value, …"). Read-only.

    Example:
        >>> await choose_details(run, "EDITED=keep")
        STRATEGY = auto (parameter)
        TRIGGERS = fire (parameter)
        EDITED = keep (parameter)
        CODE = revert (parameter)
        {'STRATEGY': 'auto', 'TRIGGERS': 'fire', 'EDITED': 'keep', 'CODE': 'revert'}
    """
    given = approval.read(values)
    approval.require_known(given, run.details())
    made = {}
    for name, (options, planned) in run.details().items():
        if name not in given and not run.asks_for(name):
            continue
        if before := widgets.chosen_before(run, name, options, again):
            made[name] = before
            continue
        with asked(run, name):
            made[name], by = await choice(name, options, given.get(name, planned))
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
    executed = plan.carried_out(chosen)
    if executed != chosen:
        why = f"{plan.types[chosen].because} By the compatibility table, {plan.alone(chosen)}."
        show(display.line(f"{plan.types[chosen].title} is executed as {executed}: {why}"))
    run.choose("TYPE", executed, by)
    settle(run)
    return chosen


def consequence(plan: Plan, name: str) -> str:
    """The time and outage of a type, and whether it changes data, in one line. Pure."""
    kind = plan.types[name]
    if kind.by_hand:
        return f"By hand: {kind.by_hand}"
    done = plan.carried_out(name)
    of = estimates.ways(plan, done)
    data = any(isinstance(step, DatabaseStep) for steps in of for step in steps)
    loses = "Data changes; the loss is counted for each option, next." if data else "No data changes, so users lose nothing."
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
