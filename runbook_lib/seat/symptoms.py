"""The symptoms of the decision matrix as checkboxes, ticked by the probes; who sits there has the last word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from IPython.display import display as show

from runbook_lib import display, triage
from runbook_lib.errors import ParametersError
from runbook_lib.plan import Plan
from runbook_lib.results import Result
from runbook_lib.run import Run
from runbook_lib.triage import Recommendation, RowFound, Word

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
    advice = triage.recommend(run.context.plan, found, words(run))
    symptom = advice.row.symptom if advice.row else ""
    run.journal.append("recommended", type=advice.type, reason=advice.reason, symptom=symptom)
    return advice


def by_probes(run: Run, found: Sequence[Result]) -> dict[str, str]:
    """What the probes alone say of each symptom. Pure."""
    return {row.row.symptom: row.matches for row in triage.recommend(run.context.plan, found).rows}


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
        """Take a tick in, and score anew.

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
