"""Where an answer's items are, and what a field of them amounts to: whatever the shape, truth is never turned round."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from runbook_lib.checks.served import Omitted, Served, absence, all_pages, presence, read
from runbook_lib.config.plan.answer_path import ABSENT, AnswerPath, at
from runbook_lib.config.plan.shown import NextPage
from runbook_lib.system.http import Answer

BOTH: list[dict[str, Any]] = [{"id": 1, "mediaUrl": "/media/3.svg"}, {"id": 2, "mediaUrl": None}]
PLAIN = {"messages": BOTH}
NESTED = {"success": True, "data": {"messages": BOTH, "nextCursor": None}}
PEOPLE_FIRST = {"participants": [{"id": 7, "name": "Bo"}], "messages": BOTH}
ERRORS_FIRST = {"errors": [], "data": BOTH}
OMITTED = {"messages": [BOTH[0], {"id": 2}]}
EDGES = {"data": {"messages": {"edges": [{"node": one} for one in BOTH], "pageInfo": {"hasNextPage": False}}}}
BY_KEY = {"messages": {"1": BOTH[0], "2": BOTH[1]}}
BATCH = [{"result": {"data": BOTH}}]


def answer(body: object, status: int = 200) -> Answer:
    return Answer.of(status, body if isinstance(body, str) else json.dumps(body))


def found(body: object, path: str | None = None, omitted: Omitted = None) -> str:
    status, text = presence({"7": read(answer(body), path, "http://api/threads/7/messages")}, "mediaUrl", omitted, {})
    assert text
    return str(status)


@pytest.mark.parametrize(
    ("body", "path", "omitted"),
    [
        pytest.param(BOTH, None, None, id="list"),
        pytest.param(PLAIN, None, None, id="one list"),
        pytest.param(NESTED, "data.messages", None, id="nested"),
        pytest.param(PEOPLE_FIRST, "messages", None, id="people first"),
        pytest.param(ERRORS_FIRST, "data", None, id="errors first"),
        pytest.param(OMITTED, None, "empty", id="omitted key"),
        pytest.param(EDGES, "data.messages.edges[].node", None, id="edges"),
        pytest.param(BY_KEY, "messages.*", None, id="by key"),
        pytest.param(BATCH, "[0].result.data", None, id="batch"),
        pytest.param({"a.b": BOTH}, '"a.b"', None, id="a key with a dot"),
        pytest.param("\ufeff" + json.dumps(BOTH), None, None, id="byte order mark"),
    ],
)
def test_a_shape_that_the_plan_knows_passes(body: object, path: str | None, omitted: Omitted) -> None:
    assert found(body, path, omitted) == "PASS"


@pytest.mark.parametrize(
    ("body", "path", "omitted"),
    [
        pytest.param(NESTED, None, None, id="nested, not said where"),
        pytest.param(PEOPLE_FIRST, None, None, id="two lists"),
        pytest.param(ERRORS_FIRST, None, None, id="errors first, not said where"),
        pytest.param(OMITTED, None, None, id="omitted, not said whether empty"),
        pytest.param(EDGES, "data.messages.edges", None, id="edges without their nodes"),
        pytest.param(EDGES, "data.messages", None, id="an object where the list is to be"),
        pytest.param(PLAIN, "data", None, id="another key"),
        pytest.param({"people": [{"id": 7, "name": "Bo"}]}, None, None, id="the only list is another"),
        pytest.param({"people": [], "data": PLAIN}, None, None, id="the only list is another, and empty"),
        pytest.param([{"id": 1, "attributes": {"mediaUrl": "/3.svg"}}], None, None, id="the field is deeper"),
        pytest.param({"errors": []}, None, None, id="a list of no errors alone"),
        pytest.param({"errors": [{"message": "boom"}], "data": None}, "data", None, id="GraphQL's errors"),
        pytest.param({"errors": [{"message": "boom"}], "data": BOTH}, "data", None, id="GraphQL's errors and data"),
        pytest.param({"error": "boom", "messages": []}, "messages", None, id="an error with status 200"),
        pytest.param({"success": False, "messages": []}, "messages", None, id="no success"),
        pytest.param({"status": "error", "data": []}, "data", None, id="status in the body"),
        pytest.param("<!DOCTYPE html><p>Sign in", None, None, id="HTML"),
        pytest.param("", None, None, id="empty"),
        pytest.param("[" * 100_000, None, None, id="nested too deeply"),
        pytest.param([1, 2], None, None, id="numbers"),
        pytest.param({"messages": [{"mediaUrl": None}], "nextCursor": "x"}, None, None, id="the rest on the next page"),
        pytest.param({"messages": [{"mediaUrl": None}], "meta": {"total": 9}}, None, None, id="one of nine"),
        pytest.param({"messages": [{"mediaUrl": None}], "page_info": {"has_next_page": True}}, None, None, id="more"),
    ],
)
def test_what_cannot_be_told_is_unknown(body: object, path: str | None, omitted: Omitted) -> None:
    assert found(body, path, omitted) == "UNKNOWN"


@pytest.mark.parametrize(
    ("body", "omitted"),
    [
        pytest.param({"messages": [{"mediaUrl": None}, {"mediaUrl": ""}]}, None, id="none"),
        pytest.param({"messages": [{"mediaUrl": {"url": None}}]}, None, id="an object that holds nothing"),
        pytest.param({"messages": [{"id": 1}, {"id": 2}]}, "empty", id="left out everywhere"),
        pytest.param({"messages": []}, None, id="no items"),
        pytest.param({"messages": [{"id": 1}]}, None, id="dropped"),
        pytest.param(OMITTED, "missing", id="one item lacks it"),
        pytest.param({"messages": [{"mediaUrl": None}], "nextCursor": None}, None, id="the only page"),
    ],
)
def test_what_older_clients_are_not_served_fails(body: object, omitted: Omitted) -> None:
    assert found(body, "messages", omitted) == "FAIL"


MORE: list[tuple[dict[str, Any], dict[str, str]]] = [  # of the body, of the headers
    ({"next_page_url": "/m?page=2"}, {}),
    ({"last": False, "number": 0}, {}),
    ({"page": 1, "totalPages": 3}, {}),
    ({"meta": {"pagination": {"page": 1, "pageCount": 3}}}, {}),
    ({"total": "9"}, {}),
    ({"total": {"value": 9, "relation": "eq"}}, {}),
    ({"count": 9}, {}),
    ({"IsTruncated": True}, {}),
    ({"LastEvaluatedKey": {"id": 1}}, {}),
    ({"_links": {"next": {"href": "/m?page=2"}}}, {}),
    ({}, {"X-Total-Count": "9"}),
    ({}, {"X-Next-Page": "2"}),
    ({}, {"Content-Range": "0-0/9"}),
    ({}, {"Link": '</m?page=2>; rel="next", </m?page=3>; rel="last"'}),
]
NO_MORE: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"last": True, "totalPages": 1, "total": {"value": 1}, "next": "", "cursor": None, "count": "1"}, {}),
    ({}, {"X-Total-Count": "1", "X-Next-Page": "", "Content-Range": "0-0/1", "Link": '</m?page=1>; rel="prev"'}),
    ({}, {"X-Nextjs-Cache": "HIT", "X-RateLimit-Remaining": "59", "Link": "</a.css>; rel=preload"}),
]


@pytest.mark.parametrize(
    ("extra", "headers", "status"),
    [*((*each, "UNKNOWN") for each in MORE), *((*each, "FAIL") for each in NO_MORE)],
)
def test_a_value_may_be_on_a_page_that_was_not_asked_for(
    extra: dict[str, Any], headers: dict[str, str], status: str
) -> None:
    first = Answer.of(200, json.dumps({"messages": [{"mediaUrl": None}], **extra}), headers=headers)

    assert presence({"7": read(first, "messages")}, "mediaUrl", None, {})[0] == status


@pytest.mark.parametrize(
    "extra",
    [{"code": 500}, {"statusCode": "503"}, {"isSuccess": False}, {"hasError": True}, {"status": "FAIL"}, {"Error": "boom"}],
)
def test_an_answer_that_says_it_is_an_error_is_none(extra: dict[str, Any]) -> None:
    assert found({"data": [], **extra}, "data") == "UNKNOWN"


@pytest.mark.parametrize("nothing", [None, "null", "[]", " ", [None], [{}], {"nodes": [], "pageInfo": {"more": False}}])
def test_what_holds_nothing_is_no_value(nothing: object) -> None:
    served = {"7": read(answer([{"mediaUrl": nothing}]), None)}

    assert (presence(served, "mediaUrl", None, {})[0], absence(served, "mediaUrl", None)[0]) == ("FAIL", "PASS")


def test_a_sample_whose_rows_may_all_be_hidden_is_unknown() -> None:
    status, text = presence({"7": read(answer({"messages": []}), "messages")}, "mediaUrl", None, {"7": "say which rows"})

    assert (status, "7: say which rows" in text) == ("UNKNOWN", True)


@pytest.mark.parametrize(
    ("body", "omitted", "status"),
    [
        ({"messages": [{"id": 1}]}, "missing", "PASS"),
        ({"messages": [{"id": 1}], "next": "/more"}, "missing", "PASS"),  # an API that does not know the field
        ({"messages": [{"id": 1, "x": []}], "next": "/more"}, "missing", "UNKNOWN"),
        ({"messages": [{"id": 1}], "next": "/more"}, "empty", "UNKNOWN"),
        ({"messages": [{"id": 1}], "next": "/more"}, None, "UNKNOWN"),
        ({"messages": [{"id": 1, "x": [1]}], "next": "/more"}, None, "FAIL"),
        ({"messages": []}, None, "UNKNOWN"),
        ({"messages": [{"node": {"x": [1]}}]}, None, "UNKNOWN"),  # the field is deeper
    ],
)
def test_absence_on_the_first_of_several_pages(body: object, omitted: Omitted, status: str) -> None:
    assert absence({"7": read(answer(body), "messages")}, "x", omitted)[0] == status


# --- pages


def paged(bodies: Mapping[str, object], next_page: NextPage) -> Served:
    def get(url: str) -> Answer:
        return answer(bodies[url])

    return all_pages(get("http://api/m?a=1"), "http://api/m?a=1", "messages", next_page, get)


@pytest.mark.parametrize(
    ("bodies", "parameter"),
    [
        pytest.param(
            {
                "http://api/m?a=1": {"messages": BOTH, "next": "x y"},
                "http://api/m?a=1&after=x+y": {"messages": BOTH, "next": None},
            },
            "after",
            id="cursor",
        ),
        pytest.param(
            {
                "http://api/m?a=1": {"messages": BOTH, "next": "/m?page=2"},
                "http://api/m?page=2": {"messages": BOTH, "next": ""},
            },
            None,
            id="address",
        ),
    ],
)
def test_all_pages_are_read(bodies: Mapping[str, object], parameter: str | None) -> None:
    served = paged(bodies, NextPage(at="next", parameter=parameter))

    assert (len(served.items), served.first, served.unclear, served.more) == (4, 2, "", "")


def test_pages_are_followed_by_the_header_link() -> None:
    later = {"http://api/m?page=2": answer(PLAIN)}
    first = Answer.of(200, json.dumps(PLAIN), headers={"Link": '<http://api/m?page=2>; rel="next"'})

    served = all_pages(first, "http://api/m", "messages", None, later.__getitem__)

    assert (len(served.items), served.first, served.more) == (4, 2, "")


@pytest.mark.parametrize(
    ("following", "why"),
    [
        pytest.param("http://elsewhere/m", "not lead to a further page", id="another server is not given the token"),
        pytest.param("/m?a=1", "do not end", id="pages go round"),
        pytest.param(True, "not lead to a further page", id="true is no cursor"),
    ],
)
def test_pages_that_cannot_be_followed_are_reported_as_unread(following: object, why: str) -> None:
    served = paged({"http://api/m?a=1": {"messages": BOTH, "next": following}}, NextPage(at="next"))

    assert (len(served.items), why in served.more) == (2, True)


def test_a_page_that_is_an_error_leaves_the_whole_untold() -> None:
    bodies = {"http://api/m?a=1": {"messages": BOTH, "next": "/b"}, "http://api/b": {"error": "boom"}}

    assert "boom" in paged(bodies, NextPage(at="next")).unclear


# --- paths


@pytest.mark.parametrize("path", ["", "a..b", ".a", "a[", "a[]b", "$.data", "@", "a.", 'a."', "a[x]"])
def test_a_path_that_cannot_be_read_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="keys parted by dots"):
        TypeAdapter(AnswerPath).validate_python(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [("a[].b", [1, 2]), ("a[0].b", 1), ("a[-1].b", 2), ("a[5].b", ABSENT), ("a.b", ABSENT), ("a[].c[].d", [3, 4]), ("e", 0)],
)
def test_what_a_path_finds(path: str, value: object) -> None:
    body = {"a": [{"b": 1, "c": [{"d": 3}, {"d": 4}]}, {"b": 2}, {"b": None}, {}], "e": 0}
    body["a"] = body["a"][:2] if path == "a[-1].b" else body["a"]  # type: ignore[index]

    assert at(body, path) == value


# --- whatever the shape

Envelope = Callable[[list[dict[str, Any]]], tuple[object, str | None]]


def _in(keys: list[str], others: dict[str, Any]) -> Envelope:
    def wrapped(items: list[dict[str, Any]]) -> tuple[object, str | None]:
        body: Any = items
        for key in reversed(keys):
            body = {**others, key: body}
        return body, ".".join(keys) or None

    return wrapped


def _edges(items: list[dict[str, Any]]) -> tuple[object, str | None]:
    return {"data": {"rows": {"edges": [{"node": one} for one in items]}}}, "data.rows.edges[].node"


OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "errors": st.just([]),
        "people": st.lists(st.fixed_dictionaries({"name": st.text()}), max_size=3),
        "tags": st.lists(st.text(max_size=3), max_size=2),
        "meta": st.just({"total": 3}),
        "ok": st.just(True),
        "error": st.none(),
    },
)
ENVELOPES = st.one_of(
    st.builds(_in, st.lists(st.sampled_from(["data", "rows", "result"]), max_size=3, unique=True), OTHERS), st.just(_edges)
)
ROWS = st.lists(st.sampled_from(["", "/media/1.png", "/media/2.png"]), min_size=1, max_size=6).filter(any)


@settings(max_examples=400, deadline=None)
@given(
    rows=ROWS,
    envelope=ENVELOPES,
    leaves_out=st.booleans(),
    fault=st.sampled_from(["", "null", "dropped"]),
    says_where=st.booleans(),
    says_omitted=st.booleans(),
    html=st.booleans(),
)
def test_no_shape_turns_truth_round(
    rows: list[str],
    envelope: Envelope,
    leaves_out: bool,
    fault: str,
    says_where: bool,
    says_omitted: bool,
    html: bool,
) -> None:
    items = []
    for number, media in enumerate(rows):
        value = media or None if not fault else None
        known = fault != "dropped" and not (leaves_out and value is None)
        items.append({"id": number} | ({"media": value} if known else {}))
    body, path = envelope(items)
    omitted: Omitted = ("empty" if leaves_out else "missing") if says_omitted else None
    read_as = read(answer("<html>" if html else body), path if says_where else None)

    status, _ = presence({"7": read_as}, "media", omitted, {})

    assert status != ("PASS" if fault else "FAIL")
    is_plain = isinstance(body, list)
    if not html and says_omitted and (says_where or is_plain) and "total" not in str(body):
        assert status == ("FAIL" if fault else "PASS")
