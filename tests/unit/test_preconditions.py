"""Which preconditions of a step are checked when; a preview with one that does not hold cannot be approved."""

from collections.abc import Callable
from dataclasses import asdict

import pytest

from runbook_lib import run as run_module
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError, ParametersError, PreconditionError, RunbookError, UnknownOutcome
from runbook_lib.report import write_report
from runbook_lib.results import Found, Precondition, Status, When
from runbook_lib.run import Run
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step, kinds, step_named
from runbook_lib.steps.by_hand import Instruction, in_words
from runbook_lib.ui import display

B, S, ONLY_B = When.BEFOREHAND, When.AT_THE_STEP, When.ONLY_BEFOREHAND
# kind -> precondition (without the step's name) -> when it is looked at for the first time, and whether it is waivable
TABLE: dict[str, dict[str, tuple[When, bool]]] = {
    "stop": {"forgotten": (B, False)},
    "start": {"versions": (B, True), "images": (ONLY_B, True)},
    "restart": {"versions": (B, True), "images": (ONLY_B, True)},
    "freeze": {"commands": (B, False)},
    "release": {"commands": (B, False)},
    "purge_cache": {"command": (B, False)},
    "backup": {"readable": (B, False)},
    "fence": {"": (B, True), "ends": (B, True)},
    "let_in": {"known": (B, False)},
    "clear_backfill": {
        "disconnected": (S, False),
        "table": (B, False),
        "strategy": (B, False),
        "decided": (B, False),
        "lasting": (ONLY_B, True),
    },
    "remove_columns": {
        "disconnected": (S, False),
        "services": (S, False),
        "dependents": (B, False),
        "lasting": (ONLY_B, True),
        "schema-as-in-backup": (B, True),
    },
    "restore_staging": {
        **{n: (B, True) for n in ("tools", "restorable-backup", "same-database", "restore-rights", "server-disk", "ties")},
        "draft": (B, False),
    },
    "swap_database": {"restored": (S, False), "loss": (S, False), "sessions": (B, False)},
    "take_back": {
        "draft": (B, False),
        "copies": (B, False),
        "disk": (B, True),
        "history": (B, False),
        "tried": (ONLY_B, False),
        "redeploys": (ONLY_B, True),
        "disconnected": (S, False),
        "services": (S, False),
    },
    "revert": {"services": (B, True)},
    "restore_part": {
        **{"tools": (B, True), "same-database": (B, True), "triggers": (B, False)},
        **{"writable": (B, False), "makeable": (B, False)},
    },
    "build": {"builds": (B, True), "files": (ONLY_B, True)},
    "rebuild": {"builds": (B, True), "files": (ONLY_B, True)},
    "end_sessions": {"reach": (B, False)},
    "push": {"code": (S, True), "": (B, True)},
}


def test_the_table_names_every_kind_of_step() -> None:
    assert TABLE.keys() == kinds().keys()


@pytest.mark.parametrize("kind", kinds())
def test_each_precondition_of_a_kind_is_checked_when_the_table_says(context: Context, kind: str) -> None:
    name = next(name for name, spec in context.plan.steps.items() if spec.kind == kind)

    needs = step_named(context, name).needs()

    assert {n.name.removeprefix(name).removeprefix(": "): (n.when, n.waivable) for n in needs} == TABLE[kind]


def test_what_only_stopped_services_make_true_is_not_asked_for_beforehand() -> None:
    of_the_step = {f"{kind}: {name}" for kind, needs in TABLE.items() for name, (when, _) in needs.items() if when is S}

    assert of_the_step == {
        "clear_backfill: disconnected",  # once the services are stopped
        "remove_columns: disconnected",
        "remove_columns: services",
        "take_back: disconnected",
        "take_back: services",
        "swap_database: restored",  # once the backup is restored next to the live database
        "swap_database: loss",
        "push: code",  # once the code is taken back
    }


# --- what the run makes of it


class Foreseen(Step):
    """A step with one precondition that can be checked beforehand."""

    found: Callable[[], Found] = staticmethod(lambda: (Status.PASS, "seen"))
    effect = Effect.NOT_DONE
    waivable = False
    shows = True

    def preview(self) -> Preview:
        if not self.shows:
            raise PreconditionError("The plan names a column that is not there.", safe_next="Correct the plan.")
        return Preview(self.name, self.title, would=["do it"], facts={"database": "d"})

    def by_hand(self, preview: Preview) -> list[Instruction]:
        return [in_words("Do it.")]

    def probe(self) -> Probe:
        return Probe(self.effect, "it is there")

    def needs(self) -> list[Precondition]:
        return [
            self.need("room", "There is room", B, lambda: self.found(), waivable=self.waivable),
            self.need("quiet", "Nobody is connected", S, lambda: (Status.FAIL, "looked at too early")),
        ]

    def apply(self) -> Facts:
        return {}

    def verify(self) -> list[object]:  # type: ignore[override]
        return []

    def undo(self) -> Facts:
        return {}


@pytest.fixture
def step(run: Run, monkeypatch: pytest.MonkeyPatch) -> Foreseen:
    made = Foreseen("revert-frontend", run.context)
    monkeypatch.setattr(run_module, "steps_of", lambda context: {made.name: made})
    run.journal.append("chosen", name="TYPE", value="frontend", by="parameter")
    run.refresh()
    return made


def raising(error: RunbookError) -> Callable[[], Found]:
    def look() -> Found:
        raise error

    return look


def test_what_holds_can_be_approved_and_is_journaled_with_the_digest(run: Run, step: Foreseen) -> None:
    digest, _ = run.previews()
    run.approve(digest, "Dana")

    assert [(r.name, r.status) for r in run.foreseen(digest)] == [
        ("revert-frontend: preview", Status.PASS),
        ("revert-frontend: room", Status.PASS),
    ]
    assert run.state.approved == digest


def test_notebook_and_report_show_the_step_of_each_finding(run: Run, step: Foreseen) -> None:
    digest, previews = run.previews()
    shown = display.previews(digest, previews, foreseen=run.foreseen(digest)).text
    page = write_report(run.folder, run.context.plan, run.state, run.journal.events()).read_text()

    title = run.context.plan.steps[step.name].title
    assert [line.count(title) for line in shown.splitlines() if "There is room" in line] == [1]
    assert (f"Checked before approval: preview {digest}" in page, f"{title}: There is room" in page) == (True, True)


@pytest.mark.parametrize(
    ("found", "error", "said"),
    [
        (lambda: (Status.FAIL, "1 GB of 2"), PreconditionError, "There is room (revert-frontend: room): FAIL, 1 GB of 2"),
        (lambda: (Status.UNKNOWN, "no answer"), UnknownOutcome, "UNKNOWN, no answer"),
        (raising(PreconditionError("It is full.")), PreconditionError, "FAIL, It is full."),
        (raising(AdapterError("The server is down.")), UnknownOutcome, "could not be looked at: The server is down."),
    ],
    ids=["fails", "is unknown", "refuses", "cannot be looked at"],
)
def test_what_does_not_hold_is_shown_and_cannot_be_approved(
    run: Run, step: Foreseen, found: Callable[[], Found], error: type[RunbookError], said: str
) -> None:
    step.found = found  # type: ignore[method-assign]
    digest, previews = run.previews()

    with pytest.raises(error) as refused:
        run.approve(digest, "Dana")

    assert said in refused.value.what
    assert "waive" not in refused.value.safe_next
    assert run.state.approved == ""
    shown = display.previews(digest, previews, foreseen=run.foreseen(digest))
    assert all("Checked before approval: 1 of 2 PASS" in text for text in (shown.text, shown.html))


def test_a_preview_that_cannot_be_made_is_shown_and_cannot_be_approved(run: Run, step: Foreseen) -> None:
    step.shows = False
    digest, previews = run.previews()

    with pytest.raises(PreconditionError, match=r"names a column that is not there\. Correct the plan"):
        run.approve(digest, "Dana")

    assert previews[0].would == ["stop: The plan names a column that is not there. Correct the plan."]


def test_only_what_is_waivable_is_waived_by_its_name_or_with_its_step(run: Run, step: Foreseen) -> None:
    step.found = lambda: (Status.UNKNOWN, "no answer")  # type: ignore[method-assign]
    with pytest.raises(ParametersError, match="no check or step 'revert-frontend: room' to waive"):
        run.waive("revert-frontend: room", "the disk is in the next rack")
    run.waive("revert-frontend", "a waiver of the step does not cover it")
    with pytest.raises(UnknownOutcome):
        run.approve(run.previews()[0], "Dana")
    step.waivable = True

    digest, _ = run.previews()
    assert run.obstacles(digest) == []  # with its step
    run.waive("revert-frontend: room", "the disk is in the next rack")
    run.approve(digest, "Dana")

    assert run.state.approved == digest


def test_the_error_names_the_waiver_where_all_can_be_waived(run: Run, step: Foreseen) -> None:
    step.waivable, step.found = True, lambda: (Status.UNKNOWN, "no answer")  # type: ignore[method-assign]
    digest, _ = run.previews()

    with pytest.raises(UnknownOutcome) as refused:
        run.approve(digest, "Dana")

    assert "--waive 'revert-frontend: room: REASON'" in refused.value.safe_next


def test_a_step_that_the_run_began_needs_nothing_once_its_effect_is_there(run: Run, step: Foreseen) -> None:
    step.found, step.effect = lambda: (Status.FAIL, "1 GB of 2"), Effect.DONE  # type: ignore[method-assign]
    digest, _ = run.previews()
    assert [r.name for r in run.obstacles(digest)] == ["revert-frontend: room"]  # a step before it may change what is there
    run.journal.append("started", step=step.name, title=step.title, action="apply")

    digest, _ = run.previews()
    run.approve(digest, "Dana")

    assert {r.summary for r in run.foreseen(digest)} == {"not needed: it is there"}


def test_what_has_been_put_right_since_can_be_approved_by_the_same_digest(run: Run, step: Foreseen) -> None:
    step.found = lambda: (Status.FAIL, "1 GB of 2")  # type: ignore[method-assign]
    first, _ = run.previews()
    step.found = lambda: (Status.PASS, "3 GB")  # type: ignore[method-assign]

    again, _ = run.previews()
    run.approve(again, "Dana")

    assert first == again


def test_an_approval_for_some_steps_is_not_refused_for_another(run: Run, step: Foreseen) -> None:
    step.found = lambda: (Status.FAIL, "1 GB of 2")  # type: ignore[method-assign]
    digest, _ = run.previews()

    run.approve(digest, "Dana", steps=["start-services"])

    assert run.state.approved == digest


def test_a_preview_of_an_older_version_without_this_can_be_approved(run: Run, step: Foreseen) -> None:
    shown = step.preview()
    run.journal.append("previewed", digest="d1", steps=run_module.approval.bound([shown]), shown=[asdict(shown)])

    run.approve("d1", "Dana")

    assert run.state.approved == "d1"
