"""What a person at a notebook is shown of a step, and what can be done about it, without a kernel."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest

from runbook_lib import display, widgets
from runbook_lib.adapters.browser.worker import Worker
from runbook_lib.errors import Declined, StepFailed
from runbook_lib.journal import Event
from runbook_lib.loop import Done
from runbook_lib.run import Run
from runbook_lib.seat import acting, asking, beside, confirming, failing, gate, live, mirroring, troubleshooting

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
    for module in (beside, failing, gate, live, widgets, confirming):
        monkeypatch.setattr(module, "show", made.show)
    for module in (acting, beside, failing, live, widgets, confirming, asking):
        monkeypatch.setattr(module, "attended", lambda: True)
    return made


def told(*events: tuple[float, str, dict[str, Any]]) -> list[Event]:
    return [
        Event(n, (BEGIN + timedelta(seconds=at)).isoformat(), kind, data, "", "")
        for n, (at, kind, data) in enumerate(events, 1)
    ]


def chooses(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    given = iter(answers)

    async def choice(*_: Any) -> tuple[str, str]:
        return next(given), "operator"

    monkeypatch.setattr(failing, "choice", choice)


def acts(monkeypatch: pytest.MonkeyPatch, *outcomes: Any) -> list[Callable[..., Any]]:
    """What is carried out, each time with the next outcome."""
    asked: list[Callable[..., Any]] = []
    given = iter(outcomes)

    async def carried_out(run: Run, name: str, act: Callable[..., Any]) -> Done:
        asked.append(act)
        if isinstance(outcome := next(given), Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(failing.acting, "carried_out", carried_out)
    return asked


# --- a long step


def test_a_panel_tells_rows_rate_rest_and_who_is_in_the_way() -> None:
    events = told(
        (0, "started", {}),
        (10, "progress", {"done": 200, "total": 1000, "text": ""}),
        (11, "waiting", {"blockers": ["pid 42 (app, 3.0 s): SELECT"]}),
    )

    text = acting.panel("Clear", events, BEGIN + timedelta(seconds=12)).text

    assert "200 of 1,000 rows, 20 a second, 40 s remain" in text
    assert "in the way: pid 42 (app" in text


def test_a_panel_tells_what_is_counted_and_no_rest_where_the_whole_is_not_known() -> None:
    events = told((0, "started", {}), (10, "progress", {"done": 3, "total": 0, "text": "compared: a", "unit": "tables"}))

    text = acting.panel("Restore", events, BEGIN + timedelta(seconds=12)).text

    assert text.splitlines()[1:] == ["3 tables so far", "compared: a"]


def test_a_panel_forgets_what_an_earlier_try_told() -> None:
    events = told((0, "started", {}), (1, "progress", {"done": 5, "total": 9}), (2, "failed", {}), (3, "started", {}))

    assert acting.panel("Clear", events, BEGIN + timedelta(seconds=4)).text == "Clear: 1 s"


def test_a_step_that_tells_much_costs_few_updates(screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    wait = asyncio.wait

    async def counted(tasks: Any, timeout: float) -> Any:
        nonlocal looks
        looks += 1
        return await wait(tasks, timeout=timeout)

    monkeypatch.setattr(beside.asyncio, "wait", counted)

    def act(run: Run, name: str) -> Done:
        for done in range(300):
            run.journal.append("progress", step=name, done=done, total=300, text="")
        return DONE

    assert asyncio.run(acting.carried_out(run, STEP, act)) is DONE
    assert screen.updates <= looks + 1 < 300
    assert beside.PERIOD >= 0.5


def test_without_a_person_a_step_is_carried_out_in_the_cell_itself(run: Run) -> None:
    assert asyncio.run(acting.carried_out(run, STEP, lambda run, name: DONE)) is DONE


# --- a failure


FAILED = StepFailed("It broke.", where="there", state="Half done.", safe_next="Mend it.")


def test_without_a_person_a_failure_ends_the_cell(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    acts(monkeypatch, FAILED)

    with pytest.raises(StepFailed, match="It broke"):
        asyncio.run(failing.applied(run, STEP))


def test_after_undo_the_cell_ends_with_an_error_so_that_run_all_stops(
    screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = acts(monkeypatch, FAILED, DONE)
    chooses(monkeypatch, "undo")

    with pytest.raises(Declined, match="was undone"):
        asyncio.run(failing.applied(run, STEP))

    assert [act.__name__ for act in asked] == ["apply", "undo"]


def test_escalation_goes_on_as_the_next_rung_with_the_contacts(
    screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts(monkeypatch, FAILED)
    chooses(monkeypatch, "escalate")

    with pytest.raises(StepFailed):
        asyncio.run(failing.applied(run, STEP))

    assert (run.state.type, run.state.option) == ("restore", "C")
    assert "Database Admin" in str(screen.shown[-1])


def test_the_last_rung_is_a_person(run: Run) -> None:
    run.choose("TYPE", "restore", "parameter")

    shown = failing.escalate(run, STEP, FAILED)

    assert "Call senior engineering now" in shown.text
    assert run.state.type == "restore"


def test_looking_for_the_trouble_asks_again(screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    acts(monkeypatch, FAILED, DONE)
    chooses(monkeypatch, "troubleshoot", "retry")

    assert asyncio.run(failing.applied(run, STEP)) is DONE


def test_undo_is_offered_only_for_what_was_begun(run: Run) -> None:
    assert "undo" not in failing.ways_on(run, STEP)

    run.journal.append("started", step=STEP, title="t")

    assert "undo" in failing.ways_on(run, STEP)


# --- confirmations


@pytest.mark.parametrize(
    ("environment", "undone_by", "answers"),
    [
        ("rehearsal", "putting it back", []),
        ("production", "putting it back", ["rehearsal"]),
        ("rehearsal", "nothing: IRREVERSIBLE", [STEP]),
        ("production", "nothing: IRREVERSIBLE", ["rehearsal", STEP]),
        ("production", "nothing to undo: the dump is kept", ["rehearsal"]),
    ],
)
def test_production_wants_the_targets_name_and_an_irreversible_step_a_second_answer(
    screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch, environment: str, undone_by: str, answers: list[str]
) -> None:
    run.context.target = run.context.target.model_copy(update={"environment": environment})
    run.journal.append("previewed", digest="d", steps={}, shown=[{"step": STEP, "undone_by": undone_by}])
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
        ["OPTION = B (operator, as chosen before; to choose anew, add again=True)"] if stands else []
    )


# --- the banner


def test_production_is_told_in_words_and_fills_the_banner_with_its_colour(run: Run) -> None:
    state = run.state
    state.opened["environment"] = "production"

    shown = display.banner(run.folder, run.context.plan, state)

    assert shown.text.startswith("PRODUCTION: WHAT IS DONE HERE REACHES CUSTOMERS")
    assert f"background:{display.ENVIRONMENTS['production']};color:#ffffff" in shown.html


def test_the_banner_says_in_every_state_how_the_services_are_brought_back(run: Run) -> None:
    banner = live.Banner(run)
    assert "SERVICE BACK NOW: nothing was begun" in banner.now().text

    run.journal.append("started", step="stop-services", title="Stop")
    run.journal.append("applied", step="stop-services", seconds=1.0, outcome={})

    assert "SERVICE BACK NOW: " in banner.now().text
    assert "08-service-back" in banner.now().text


def test_the_banner_names_the_run_and_no_path_of_the_machine(run: Run) -> None:
    text = live.Banner(run).now().text

    assert f"Run {run.folder.id} · " in text
    assert str(run.folder.path.parent) not in text


def test_a_run_that_is_opened_again_is_followed_once(screen: Screen, run: Run) -> None:
    def followers() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.endswith(run.folder.id)]

    for _ in range(2):
        live.begin(run)
        mirroring.begin(run)

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


def test_long_work_is_done_beside_the_cell_and_tells_its_time(screen: Screen, run: Run) -> None:
    thread = asyncio.run(beside.beside(run, "Verification", threading.get_ident))

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

    def noted() -> None:
        try:
            work(begun)
        finally:
            ended.append("let go")

    async def interrupted() -> None:
        task = asyncio.ensure_future(beside.beside(run, "Verification", noted))
        while not begun.is_set():
            await asyncio.sleep(0.005)
        task.cancel()  # as a kernel does with its cell
        await task

    monkeypatch.setattr(beside, "GRACE", 5.0)
    monkeypatch.setattr(beside, "cancel", lambda postgres: 0)
    with pytest.raises(KeyboardInterrupt, match="run the cell again"):
        asyncio.run(interrupted())

    assert ended == ["let go"]


def test_what_is_mended_is_confirmed_step_by_step_on_production(
    screen: Screen, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def confirmation(question: str, answer: str, value: str) -> str:
        asked.append(question)
        return "operator"

    run.context.target = run.context.target.model_copy(update={"environment": "production"})
    run.context.type = "rebuild-frontend"
    monkeypatch.setattr(confirming, "confirmation", confirmation)
    acts(monkeypatch, *[DONE] * len(run.steps))

    asyncio.run(troubleshooting.fix(run))

    assert asked == [f"Carry out “{step.title}” on {run.context.target.name}?" for step in run.steps.values()]


def test_alone_long_work_is_done_in_the_cell_itself(run: Run) -> None:
    assert asyncio.run(beside.beside(run, "Verification", threading.get_ident)) == threading.get_ident()


def test_a_way_back_tells_which_of_its_steps_acts(screen: Screen, run: Run) -> None:
    def walk() -> str:
        run.journal.append("started", step="stop-services", title="Stop the services")
        return "walked"

    assert asyncio.run(acting.walked(run, "Service back", ["back-up", "stop-services"], walk)) == "walked"
    assert str(screen.last) == "Service back: Stop the services: 0 s"
