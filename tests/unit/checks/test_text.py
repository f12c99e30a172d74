"""Whether a page shows the texts that it must; truth is never turned round."""

from typing import Any

import pytest
from hypothesis import given as generated
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import ValidationError

from runbook_lib.browser import MemoryBrowser, Visit
from runbook_lib.checks import CheckContext
from runbook_lib.checks.text import PageTextKeys, compared
from runbook_lib.config.plan.shown import ShownText
from runbook_lib.postgres.sampled_rows import SampledRows

from ...support.checking import api, check, given
from .test_pages import items

HELLO, BYE = "Hello, **world**!", "See you\ntomorrow at 12:30"


def found(wanted: list[str], shown: list[str], unshown: int = 0) -> str:
    return str(compared(wanted, shown, " ".join(shown), unshown, "content")[0])


@pytest.mark.parametrize(
    ("wanted", "shown", "status"),
    [
        pytest.param([HELLO, BYE], ["Bo: Hello, world!", "SEE YOU tomorrow at 12:30 ✓"], "PASS", id="as people see it"),
        pytest.param(["👍"], ["Bo 👍"], "PASS", id="no word"),
        pytest.param(["<p>Hi &amp; bye</p>"], ["Hi & bye"], "PASS", id="HTML"),
        pytest.param(["see [the docs](https://x.test)"], ["see the docs"], "PASS", id="Markdown"),
        pytest.param(["ok", "ok"], ["ok", "ok"], "PASS", id="twice"),
        pytest.param([HELLO, BYE], ["Hello, world!", "Bo"], "FAIL", id="one of two"),
        pytest.param([HELLO, BYE], ["", " "], "FAIL", id="empty items"),
        pytest.param([HELLO], [], "FAIL", id="no items"),
        pytest.param(["ok"], ["look"], "UNKNOWN", id="a part of a word is not the word"),
        pytest.param(["ok", "bye"], ["look", "bye"], "FAIL", id="a part of a word, where others are shown"),
        pytest.param([HELLO, BYE], ["Hallo, Welt!", "Bis morgen um 12:30"], "UNKNOWN", id="translated"),
        pytest.param(["bye", "a b c d e"], ["bye", "a b c …"], "UNKNOWN", id="cut short"),
        pytest.param(["bye", "hi <@U12> there"], ["bye", "hi @bo there"], "UNKNOWN", id="a mention"),
        pytest.param(["ok", "ok then"], ["ok then", ""], "UNKNOWN", id="perhaps within another"),
        pytest.param(["bye", "café au lait"], ["bye", "cafe\u0301\u00a0au lait"], "PASS", id="an accent of its own"),
        pytest.param(["bye", "a longword b"], ["bye", "a long\u200bword b"], "PASS", id="a space of no width"),
        pytest.param(["bye", "你好世界"], ["bye", "李雷你好世界 12:03"], "PASS", id="a script without spaces"),
        pytest.param(["bye", "hello there all"], ["bye", "Bohello there all12:03"], "PASS", id="elements without a space"),
        pytest.param(["bye", "total 1234567"], ["bye", "total 1,234,567"], "PASS", id="a number as people write it"),
        pytest.param(["bye", "see https://www.x.test/a/b"], ["bye", "see x.test/a/b"], "PASS", id="an address cut in front"),
        pytest.param(["bye", "what the hell is it"], ["bye", "what the **** is it"], "UNKNOWN", id="a word that is hidden"),
        pytest.param(["bye", "👍"], ["bye", "12:03"], "UNKNOWN", id="a picture for an emoji"),
        pytest.param(["bye", "hello big world"], ["bye", "undefined"], "FAIL", id="undefined"),
        pytest.param([], ["x"], "UNKNOWN", id="nothing to look for"),
    ],
)
def test_texts(wanted: list[str], shown: list[str], status: str) -> None:
    assert found(wanted, shown) == status


def test_the_text_of_a_row_that_is_perhaps_not_to_be_shown_is_unknown() -> None:
    assert (found([HELLO, BYE], ["Hello world"], 1), found([HELLO, BYE, "x"], ["Hello world"], 1)) == ("UNKNOWN", "FAIL")


WORDS = st.lists(st.sampled_from(["red", "blue", "green", "tree", "7"]), min_size=1, max_size=4).map(" ".join)


@settings(max_examples=300, deadline=None)
@generated(
    rows=st.lists(WORDS, min_size=1, max_size=5),
    lost=st.sets(st.integers(0, 4)),
    dress=st.sampled_from(["{}", "Bo wrote: {} (edited)", "<{}>", "\n{} "]),
    fault=st.sampled_from(["gone", "blank", "unavailable"]),
)
def test_truth_is_never_turned_round(rows: list[str], lost: set[int], dress: str, fault: str) -> None:
    missing = {number for number in lost if number < len(rows)}
    shown = [
        dress.format(text.upper() if number % 2 else text)
        if number not in missing
        else {"blank": "", "unavailable": "Content unavailable"}.get(fault)
        for number, text in enumerate(rows)
    ]

    status = found(rows, [text for text in shown if text is not None])

    assert status == "PASS" if not missing else status != "PASS"


# --- the check


class Texts(CheckContext):
    """A round in which the first sample holds two rows with a text each."""

    samples = ["7", "8"]  # type: ignore[assignment]
    expected = {"7": (2, ["/media/1.png"])}  # type: ignore[assignment]

    def rows_of(self, column: str, shown: Any) -> Any:
        return {"7": SampledRows(2, [HELLO, BYE])}


@pytest.fixture
def texts(checked: CheckContext) -> CheckContext:
    context = checked.context
    spec = PageTextKeys(kind="page_text", title="Texts are shown")
    context.plan = context.plan.model_copy(update={"checks": {**context.plan.checks, "texts": spec}})
    return Texts(context, "after", checked.since)


def shows(checked: CheckContext, named: list[dict[str, str]], *shown: str, **rows: Any) -> tuple[str, str]:
    page = checked.context.plan.page.model_copy(update={"texts": [ShownText(**each) for each in named], **rows})
    checked.context.plan = checked.context.plan.model_copy(update={"page": page})
    seen = Visit("http://x/", "true", " ".join(shown), len(shown), [], [], b"png", texts=shown)
    given(checked.context, browser=MemoryBrowser(lambda url: seen))
    result = check(checked, "texts")
    return str(result.status), result.summary


@pytest.mark.parametrize(
    ("named", "shown", "status"),
    [
        ({"column": "content"}, ["Hello world", "see you tomorrow at 12 30"], "PASS"),
        ({"column": "content"}, ["Hello world", "Content unavailable"], "FAIL"),
        ({"text": "Log out"}, ["x", "Log out"], "PASS"),
        ({"text": "Log out"}, ["x", "Log in"], "FAIL"),
        ({"field": "body.text"}, ["one", "two"], "PASS"),
        ({"field": "body.text"}, ["one", "three"], "FAIL"),
        ({"field": "body"}, ["one", "two"], "UNKNOWN"),
    ],
)
def test_texts_of_a_column_of_a_field_and_fixed_ones(
    texts: CheckContext, named: dict[str, str], shown: list[str], status: str
) -> None:
    api(texts.context, items({"body": {"text": "one"}}, {"body": {"text": "two"}}), items())

    assert shows(texts, [named], *shown)[0] == status


def test_the_texts_of_a_field_are_unknown_where_the_api_does_not_answer(texts: CheckContext) -> None:
    api(texts.context, ConnectionRefusedError, items())

    assert shows(texts, [{"field": "body"}], "one")[0] == "UNKNOWN"


def test_a_column_says_nothing_about_what_the_api_serves(texts: CheckContext) -> None:
    api(texts.context, items({"id": 1}), items())

    status, said = shows(texts, [{"column": "content"}], "one", rows="served")

    assert (status, "name one of their fields" in said) == ("UNKNOWN", True)


def test_a_plan_that_names_no_text_is_unknown(texts: CheckContext) -> None:
    assert shows(texts, [])[0] == "UNKNOWN"


@pytest.mark.parametrize("wrong", [{}, {"column": "a", "text": "b"}])
def test_a_text_is_of_one_kind(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="exactly one of column, field and text"):
        ShownText(**wrong)
