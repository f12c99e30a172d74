"""What a person at a notebook is shown of a step, and what can be done about it, without a kernel."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest

from runbook_lib.browser.chromium import Worker
from runbook_lib.errors import Declined, StepFailed
from runbook_lib.journal.event import Event
from runbook_lib.run import Run
from runbook_lib.run.engine import Done
from runbook_lib.ui import banner as live
from runbook_lib.ui import display, failure_menu, mirror, step_runner, triage_cells, widgets
from runbook_lib.ui import widgets as confirming

BEGIN = datetime(2025, 11, 3, 12, 0, tzinfo=UTC)
STEP = "revert-frontend"
DONE = Done(STEP, "Take the frontend's code back", "done", 1.0, 20, {}, [])


class Screen:
    """What a notebook would show, with how often it was updated."""

    def __init__(self) -> None:
        self.shown: list[Any] = []
        self.updates = 0
        self.last: Any = None  # what was updated last

    def show(self, what: Any, display_id: bool = False) -> "Screen":
        self.shown.append(what)
        return self

    def update(self, what: Any) -> None:
        self.updates += 1
        self.last = what


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A person sits there."""
    made = Screen()
    for module in (step_runner, failure_menu, widgets, live, widgets, confirming):
        monkeypatch.setattr(module, "show", made.show)
    for module in (step_runner, step_runner, failure_menu, live, widgets, confirming, widgets):
        monkeypatch.setattr(module, "attended", lambda: True)
    return made


def journal(*events: tuple[float, str, dict[str, Any]]) -> list[Event]:
    return [
        Event(n, (BEGIN + timedelta(seconds=at)).isoformat(), kind, data, "", "")
        for n, (at, kind, data) in enumerate(events, 1)
    ]


def chooses(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    given = iter(answers)

    async def choice(*_: Any, **__: Any) -> tuple[str, str]:
        return next(given), "operator"

    monkeypatch.setattr(failure_menu, "choice", choice)


def acts(monkeypatch: pytest.MonkeyPatch, *outcomes: Any) -> list[Callable[..., Any]]:
    """The executed steps, each time with the next outcome."""
    asked: list[Callable[..., Any]] = []
    given = iter(outcomes)

    async def carried_out(run: Run, name: str, act: Callable[..., Any]) -> Done:
        asked.append(act)
        if isinstance(outcome := next(given), Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(failure_menu.step_runner, "run_step", carried_out)
    return asked


# --- a long step


def test_a_panel_tells_rows_rate_rest_and_who_is_in_the_way() -> None:
    events = journal(
        (0, "started", {}),
        (10, "progress", {"done": 200, "total": 1000, "text": ""}),
        (11, "waiting", {"blockers": ["pid 42 (app, 3.0 s): SELECT"]}),
    )

    text = step_runner.under_way("Clear", events, BEGIN + timedelta(seconds=12)).text

    assert "200 of 1,000 rows, 20 a second, 40 s remain" in text
    assert "blocked by: pid 42 (app" in text


def test_a_panel_shows_the_count_and_no_rest_where_the_total_is_unknown() -> None:
    events = journal((0, "started", {}), (10, "progress", {"done": 3, "total": 0, "text": "compared: a", "unit": "tables"}))

    text = step_runner.under_way("Restore", events, BEGIN + timedelta(seconds=12)).text

    assert text.splitlines()[1:] == ["3 tables so far", "compared: a"]


def test_a_panel_forgets_what_an_earlier_try_told() -> None:
    events = journal((0, "started", {}), (1, "progress", {"done": 5, "total": 9}), (2, "failed", {}), (3, "started", {}))

    assert step_runner.under_way("Clear", events, BEGIN + timedelta(seconds=4)).text == "Clear: 1 s"


def test_a_step_that_reports_much_costs_few_updates(screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    wait = asyncio.wait

    async def counted(tasks: Any, timeout: float) -> Any:
        nonlocal looks
        looks += 1
        return await wait(tasks, timeout=timeout)

    monkeypatch.setattr(step_runner.asyncio, "wait", counted)

    def act(run: Run, name: str) -> Done:
        for done in range(300):
            run.journal.append("progress", step=name, done=done, total=300, text="")
        return DONE

    assert asyncio.run(step_runner.run_step(run, STEP, act)) is DONE
    assert screen.updates <= looks + 1 < 300
    assert step_runner.PERIOD >= 0.5


def test_without_a_person_a_step_is_executed_in_the_cell_itself(run: Run) -> None:
    assert asyncio.run(step_runner.run_step(run, STEP, lambda run, name: DONE)) is DONE


# --- a failure


FAILED = StepFailed("It broke.", where="there", state="Half done.", safe_next="Fix it.")


def test_without_a_person_a_failure_ends_the_cell(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    acts(monkeypatch, FAILED)

    with pytest.raises(StepFailed, match="It broke"):
        asyncio.run(failure_menu.applied(run, STEP))


def test_after_undo_the_cell_ends_with_an_error_so_that_run_all_stops(
    screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = acts(monkeypatch, FAILED, DONE)
    chooses(monkeypatch, "undo")

    with pytest.raises(Declined, match="was undone"):
        asyncio.run(failure_menu.applied(run, STEP))

    assert [act.__name__ for act in asked] == ["apply", "undo"]


def test_escalation_continues_at_the_next_level_with_the_contacts(
    screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts(monkeypatch, FAILED)
    chooses(monkeypatch, "escalate")

    with pytest.raises(StepFailed):
        asyncio.run(failure_menu.applied(run, STEP))

    assert (run.state.type, run.state.option) == ("restore", "C")
    assert "Database Admin" in str(screen.shown[-1])


def test_the_last_rung_is_a_person(run: Run) -> None:
    run.choose("TYPE", "restore", "parameter")

    shown = failure_menu.escalate(run, STEP, FAILED)

    assert "Call senior engineering now" in shown.text
    assert run.state.type == "restore"


def test_a_choice_that_a_failure_offers_comes_first_and_resumes_the_run(
    screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = StepFailed("It is protected.", offers="PUSH=branch")
    asked = acts(monkeypatch, refused, DONE)
    chooses(monkeypatch, "PUSH=branch")

    assert asyncio.run(failure_menu.applied(run, "push-frontend")) is DONE

    assert next(iter(failure_menu.choices_after(run, "push-frontend", refused.offers))) == "PUSH=branch"
    assert ([act.__name__ for act in asked], run.state.choices["PUSH"]) == (["apply", "apply"], "branch")
    assert "PUSH" not in failure_menu.choices_after(run, "push-frontend")


def test_looking_for_the_trouble_asks_again(screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    acts(monkeypatch, FAILED, DONE)
    chooses(monkeypatch, "troubleshoot", "retry")

    assert asyncio.run(failure_menu.applied(run, STEP)) is DONE


def test_undo_is_offered_only_for_what_was_begun(run: Run) -> None:
    assert "undo" not in failure_menu.choices_after(run, STEP)

    run.journal.append("started", step=STEP, title="t")

    assert "undo" in failure_menu.choices_after(run, STEP)


# --- confirmations


@pytest.mark.parametrize(
    ("environment", "shown", "answers"),
    [
        ("rehearsal", {"irreversible": False}, []),
        ("production", {"irreversible": False}, ["rehearsal"]),
        ("rehearsal", {"irreversible": True}, [STEP]),
        ("production", {"irreversible": True}, ["rehearsal", STEP]),
        ("rehearsal", {"irreversible": False, "undone_by": "IRREVERSIBLE is only a word: this cannot be undone"}, []),
        pytest.param("rehearsal", {}, [STEP], id="an older version's preview, which does not say"),
    ],
)
def test_production_asks_for_its_name_and_an_irreversible_step_twice(
    screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch, environment: str, shown: dict[str, Any], answers: list[str]
) -> None:
    run.context.target = run.context.target.model_copy(update={"environment": environment})
    run.journal.append("previewed", digest="d", steps={}, shown=[{"step": STEP, **shown}])
    run.journal.append("approved", digest="d", by="Dana")
    asked: list[str] = []

    async def confirmation(question: str, answer: str, value: str) -> str:
        asked.append(answer)
        return "operator"

    monkeypatch.setattr(confirming, "confirmation", confirmation)
    asyncio.run(confirming.confirmed(run, STEP))

    assert asked == answers


def test_what_is_done_already_needs_no_confirmation(screen: Screen, run: Run) -> None:
    run.context.target = run.context.target.model_copy(update={"environment": "production"})
    run.journal.append("found", step=STEP, title="t", outcome={})

    asyncio.run(confirming.confirmed(run, STEP))

    assert screen.shown == []


@pytest.mark.parametrize(
    ("by", "again", "stands"), [("operator", False, "B"), ("operator", True, ""), ("parameter", False, "")]
)
def test_a_persons_choice_stays_when_the_cell_is_run_again(
    screen: Screen, run: Run, by: str, again: bool, stands: str
) -> None:
    run.choose("OPTION", "B", by)

    assert confirming.chosen_before(run, "OPTION", {"A": "", "B": ""}, again) == stands
    assert [str(line) for line in screen.shown] == (
        ["OPTION = B (operator, as chosen before; to choose again, add again=True to the call)"] if stands else []
    )


# --- the banner


def test_a_run_that_is_opened_again_is_followed_once(screen: Screen, run: Run) -> None:
    def followers() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.endswith(run.folder.id)]

    for _ in range(2):
        live.begin(run)
        mirror.begin(run)

    deadline = monotonic() + 5
    while len(followers()) > 2 and monotonic() < deadline:
        threading.Event().wait(0.01)
    assert sorted(followers()) == [f"banner-{run.folder.id}", f"mirror-{run.folder.id}"]


# --- a question that waits


def test_a_question_can_be_called_up_below_the_banner_and_answered_there(screen: Screen, run: Run) -> None:
    async def answered() -> tuple[str, str]:
        live.begin(run)
        task = asyncio.ensure_future(widgets.choice("OPTION", {"A": "keep", "B": "drop"}, ""))
        await asyncio.sleep(0)
        screen.last.children[1].click()  # what is offered below the banner
        screen.last.children[2].click()
        return await task

    assert asyncio.run(answered()) == ("B", "operator")
    assert str(screen.last) == "OPTION = B (operator)"


# --- other long work


def test_long_work_runs_in_the_background_and_shows_its_time(screen: Screen, run: Run) -> None:
    thread = asyncio.run(step_runner.in_background(run, "Verification", threading.get_ident))

    assert thread != threading.get_ident()
    assert str(screen.shown[0]) == "Verification: 0 s"


def at_work(begun: threading.Event) -> None:
    begun.set()
    while True:
        threading.Event().wait(0.005)


def at_a_page(begun: threading.Event) -> None:
    async def visit() -> None:
        begun.set()
        await asyncio.sleep(3600)

    Worker("visits").run(visit())


@pytest.mark.parametrize("work", [at_work, at_a_page])
def test_an_interrupt_ends_long_work_and_the_cell_with_it(
    screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch, work: Callable[[threading.Event], None]
) -> None:
    ended: list[str] = []
    begun = threading.Event()

    def interruptible() -> None:
        try:
            work(begun)
        finally:
            ended.append("let go")

    async def interrupted() -> None:
        task = asyncio.ensure_future(step_runner.in_background(run, "Verification", interruptible))
        while not begun.is_set():
            await asyncio.sleep(0.005)
        task.cancel()  # as a kernel does with its cell
        await task

    monkeypatch.setattr(step_runner, "GRACE", 5.0)
    monkeypatch.setattr(step_runner, "cancel", lambda postgres: 0)
    with pytest.raises(KeyboardInterrupt, match="run the cell again"):
        asyncio.run(interrupted())

    assert ended == ["let go"]


def test_a_fix_is_confirmed_step_by_step_on_production(screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def confirmation(question: str, answer: str, value: str) -> str:
        asked.append(question)
        return "operator"

    run.context.target = run.context.target.model_copy(update={"environment": "production"})
    run.context.state = replace(run.context.state, type="rebuild-frontend")
    monkeypatch.setattr(confirming, "confirmation", confirmation)
    acts(monkeypatch, *[DONE] * len(run.steps))

    asyncio.run(triage_cells.fix(run))

    assert asked == [f"Execute “{step.title}” on {run.context.target.name}?" for step in run.steps.values()]


def test_alone_long_work_is_done_in_the_cell_itself(run: Run) -> None:
    assert asyncio.run(step_runner.in_background(run, "Verification", threading.get_ident)) == threading.get_ident()


def test_a_recovery_shows_which_of_its_steps_acts(screen: Screen, run: Run) -> None:
    def walk() -> str:
        run.journal.append("started", step="stop-services", title="Stop the services")
        return "walked"

    assert asyncio.run(step_runner.walked(run, "Service back", ["back-up", "stop-services"], walk)) == "walked"
    assert str(screen.last) == "Service back: Stop the services: 0 s"


def test_each_choice_after_a_failure_says_what_it_means_for_the_outage(run: Run) -> None:
    means = failure_menu.consequences(run, STEP)
    ways = failure_menu.choices_after(run, STEP)

    assert set(ways) - {"undo"} <= set(means)
    assert "services are down for about" in means["escalate"]
    assert display.ALL_RUN in means["retry"]
