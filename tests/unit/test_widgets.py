"""Choices and confirmations, with and without a person, without a kernel."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from runbook_lib.errors import Declined, ParametersError
from runbook_lib.ui import widgets

OPTIONS = {"A": "keep the columns", "B": "drop the columns"}
QUESTION = "Execute preview d on production?"


class Screen:
    """What a notebook would show: what was displayed, and what stands there after updates."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def show(self, what: Any, display_id: bool = False) -> "Screen | None":
        self.shown.append(what)
        return self if display_id else None

    def update(self, what: Any) -> None:
        self.shown[-1] = what

    @property
    def controls(self) -> list[Any]:
        return list(self.shown[-1].children)

    @property
    def button(self) -> Any:
        return self.controls[-1]

    @property
    def field(self) -> Any:
        return self.controls[-2]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    made = Screen()
    monkeypatch.setattr(widgets, "show", made.show)
    return made


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widgets, "attended", lambda: False)


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widgets, "attended", lambda: True)


def answered(asking: Callable[[], Awaitable[Any]], *actions: Callable[[], Any]) -> tuple[bool, Any]:
    """Ask, do each action, and say whether that was an answer, and which."""

    problems: list[dict[str, Any]] = []  # what callbacks raised

    async def go() -> tuple[bool, Any]:
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        task = asyncio.ensure_future(asking())
        for action in (lambda: None, *actions):
            for _ in range(5):
                await asyncio.sleep(0)
            action()
        for _ in range(5):
            await asyncio.sleep(0)
        if task.done():
            return True, task.result()
        task.cancel()
        return False, None

    given = asyncio.run(go())
    assert problems == []
    return given


def choosing(value: str = "") -> Callable[[], Awaitable[tuple[str, str]]]:
    return lambda: widgets.choice("OPTION", OPTIONS, value)


def confirming(value: str = "") -> Callable[[], Awaitable[str]]:
    return lambda: widgets.confirmation(QUESTION, "production", value)


def test_without_a_kernel_nobody_is_there() -> None:
    assert widgets.attended() is False


def test_headless_is_said_to_be_headless_even_where_a_kernel_could_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = type("Kernel", (), {"_allow_stdin": True})
    monkeypatch.setattr(widgets, "get_ipython", lambda: type("Shell", (), {"kernel": kernel}))
    monkeypatch.delenv("RUNBOOK_HEADLESS", raising=False)
    assert widgets.attended() is True

    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")
    assert widgets.attended() is False


# --- nobody is there


@pytest.mark.usefixtures("alone")
def test_the_parameter_chooses_where_nobody_sits(screen: Screen) -> None:
    assert answered(choosing("A")) == (True, ("A", "parameter"))
    assert [str(line) for line in screen.shown] == ["OPTION = A (parameter)"]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("value", "said"), [("", "is empty"), ("C", "cannot be chosen"), ("a", "cannot be chosen")])
def test_a_parameter_that_is_no_option_is_an_error(screen: Screen, value: str, said: str) -> None:
    with pytest.raises(ParametersError, match=said) as error:
        answered(choosing(value))

    assert ("A" in error.value.safe_next, "B" in error.value.safe_next, screen.shown) == (True, True, [])


@pytest.mark.usefixtures("alone")
def test_the_parameter_confirms_where_nobody_sits(screen: Screen) -> None:
    assert answered(confirming("production")) == (True, "parameter")
    assert [str(line) for line in screen.shown] == [f"{QUESTION} production (parameter)"]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("value", ["", "yes", "Production", "production "])
def test_a_parameter_that_is_not_the_answer_declines(screen: Screen, value: str) -> None:
    with pytest.raises(Declined, match="needs the answer 'production'"):
        answered(confirming(value))

    assert screen.shown == []


# --- a person is there


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("parameter", ["", "A"])
def test_nothing_is_chosen_for_a_person(screen: Screen, parameter: str) -> None:
    assert answered(choosing(parameter)) == (False, None)


@pytest.mark.usefixtures("person")
def test_a_parameter_is_recommended_to_a_person_by_place_shape_and_word(screen: Screen) -> None:
    seen: list[str] = []

    given = answered(choosing("B"), lambda: seen.extend(button.description for button in screen.controls[1:]))

    assert given == (False, None)
    assert seen == ["► B: drop the columns (recommended)", "A: keep the columns"]


@pytest.mark.usefixtures("person")
def test_what_is_recommended_meanwhile_moves_to_the_first_place(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widgets, "WAKE", 0)
    seen: list[list[str]] = []
    advice = ["A"]

    def look() -> None:
        seen.append([button.description[:3] for button in screen.controls[1:]])
        advice[0] = "B"

    answered(lambda: widgets.choice("OPTION", OPTIONS, "A", lambda: advice[0]), look, look)

    assert seen == [["► A", "B: "], ["► B", "A: "]]


@pytest.mark.usefixtures("person")
def test_each_option_says_below_its_button_what_it_would_mean(screen: Screen) -> None:
    means = {"A": "no service stops & users lose nothing", "B": "down for 30 s"}
    seen: list[str] = []

    answered(
        lambda: widgets.choice("OPTION", OPTIONS, "", question="what happens to the data?", consequences=means),
        lambda: seen.extend(getattr(each, "description", "") or each.value for each in screen.controls),
    )

    assert seen[0] == "OPTION: what happens to the data?"
    assert (seen[1], seen[3]) == ("A: keep the columns", "B: drop the columns")
    assert "no service stops &amp; users lose nothing" in seen[2]
    assert "down for 30 s" in seen[4]


@pytest.mark.usefixtures("person")
def test_a_click_chooses_and_leaves_one_line(screen: Screen) -> None:
    given = answered(choosing(), lambda: screen.controls[2].click())

    assert given == (True, ("B", "operator"))
    assert [str(line) for line in screen.shown] == ["OPTION = B (operator)"]


@pytest.mark.usefixtures("person")
def test_an_impossible_parameter_is_an_error_before_a_person_is_asked(screen: Screen) -> None:
    with pytest.raises(ParametersError, match="cannot be chosen"):
        answered(choosing("C"))

    assert screen.shown == []


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("typed", ["", "yes", "Production", "productio"])
def test_a_wrong_word_declines(screen: Screen, typed: str) -> None:
    with pytest.raises(Declined, match="Nothing was changed"):
        answered(confirming(), lambda: setattr(screen.field, "value", typed), lambda: screen.button.click())


@pytest.mark.usefixtures("person")
def test_the_right_word_without_a_click_confirms_nothing(screen: Screen) -> None:
    assert answered(confirming(), lambda: setattr(screen.field, "value", "production")) == (False, None)


@pytest.mark.usefixtures("person")
def test_the_parameter_does_not_confirm_for_a_person(screen: Screen) -> None:
    assert answered(confirming("production")) == (False, None)
    assert screen.field.value == ""


@pytest.mark.usefixtures("person")
def test_the_right_word_confirms_and_leaves_one_line(screen: Screen) -> None:
    given = answered(confirming(), lambda: setattr(screen.field, "value", " production "), lambda: screen.button.click())

    assert given == (True, "operator")
    assert [str(line) for line in screen.shown] == [f"{QUESTION} production (operator)"]


@pytest.mark.usefixtures("person")
def test_a_second_click_does_nothing(screen: Screen) -> None:
    def click_both() -> None:
        _, first, second = screen.controls
        second.click()
        first.click()

    assert (answered(choosing(), click_both), len(screen.shown)) == ((True, ("B", "operator")), 1)


@pytest.mark.usefixtures("person")
def test_where_a_display_cannot_be_updated_the_line_is_shown_below(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widgets, "show", lambda what, display_id=False: screen.show(what))

    answered(choosing(), lambda: screen.controls[2].click())

    assert str(screen.shown[-1]) == "OPTION = B (operator)"


# --- a reason


def reasoning(value: str = "") -> Callable[[], Awaitable[str]]:
    return lambda: widgets.reason("OVERRIDE", "Why quick?", value)


@pytest.mark.usefixtures("alone")
def test_alone_the_parameter_gives_the_reason(screen: Screen) -> None:
    assert answered(reasoning("it costs no outage")) == (True, "it costs no outage")
    assert [str(line) for line in screen.shown] == ["Why quick? it costs no outage (parameter)"]


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("value", ["", "no idea", "  because   so "])
def test_alone_a_reason_that_says_too_little_is_an_error(screen: Screen, value: str) -> None:
    with pytest.raises(ParametersError, match="too short"):
        answered(reasoning(value))

    assert screen.shown == []


@pytest.mark.usefixtures("person")
def test_a_person_types_the_reason(screen: Screen) -> None:
    typed = " it costs no outage "

    given = answered(reasoning(), lambda: setattr(screen.field, "value", typed), lambda: screen.button.click())

    assert given == (True, "it costs no outage")
    assert [str(line) for line in screen.shown] == ["Why quick? it costs no outage (operator)"]


@pytest.mark.usefixtures("person")
def test_a_person_who_types_too_little_is_warned(screen: Screen) -> None:
    with pytest.raises(ParametersError, match="OVERRIDE"):
        answered(reasoning(), lambda: screen.button.click())
