"""Comparing and merging line by line."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runbook_lib.history.provenance import hunks, merged

TEXTS = st.lists(st.sampled_from("abcdefg}"), max_size=12)


@given(TEXTS, TEXTS)
def test_the_hunks_turn_one_text_into_the_other(old: list[str], new: list[str]) -> None:
    made: list[str] = []
    at = 0
    for a, b, c, d in hunks(old, new):
        made += [*old[at:a], *new[c:d]]
        at = b

    assert made + old[at:] == new


@given(TEXTS, TEXTS)
@example([*"fgab"], [*"abfg"])  # a block that was moved: which of the two was, no text says
def test_the_reverse_has_the_same_hunks(old: list[str], new: list[str]) -> None:
    assert hunks(new, old) == [(c, d, a, b) for a, b, c, d in hunks(old, new)]


@given(TEXTS, TEXTS)
def test_one_sides_change_is_taken_as_it_is(base: list[str], changed: list[str]) -> None:
    assert merged(base, changed, base) == merged(base, base, changed) == merged(base, changed, changed) == changed


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        pytest.param("aFb", "aFob", "ab", "aob", id="added after a line that goes"),
        pytest.param("aFb", "aoFb", "ab", "aob", id="added before a line that goes"),
        pytest.param("aFb", "aFc", "ab", "ac", id="a neighbour changed"),
        pytest.param("aFbG", "aFboG", "ab", "abo", id="added between two that go"),
        pytest.param("aFGb", "aGb", "ab", "ab", id="part of it gone already"),
        pytest.param("aFGb", "aFoGb", "ab", None, id="added within lines that go"),
        pytest.param("aFb", "aXb", "ab", None, id="the line itself changed"),
        pytest.param("ab", "aob", "akb", None, id="two insertions in one place"),
        pytest.param("aFb", "aFb", "akb", "akb", id="a line comes back"),
    ],
)
def test_only_the_same_lines_conflict(base: str, ours: str, theirs: str, expected: str | None) -> None:
    assert merged(base, ours, theirs) == (None if expected is None else list(expected))


def test_large_texts_without_a_unique_line_are_compared_in_no_time() -> None:
    old, new = ["x", "y"] * 3000, ["y", "x", "z"] * 3000

    assert hunks(old, new)[0] == (0, 6000, 0, 9000)
