"""Reads an API's answer: where its items are, whether there are more, and the values of a field. Pure."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from runbook_lib.config.plan.answer_path import ABSENT, at, ways
from runbook_lib.config.plan.shown import NextPage
from runbook_lib.results import Found, Status, worst
from runbook_lib.system.http import Answer

Item = dict[str, Any]
Omitted = Literal["empty", "missing"] | None
OK = 200

# Keys that mark an answer with status 200 as an error, in lower case and without word separators.
ERRORS = {"error", "errors", "err", "exception"}
SAYS_SO = {"success", "ok", "issuccess", "succeeded"}  # false in an error
HAS_ERROR = {"haserror", "haserrors", "iserror"}
STATES, FAILED = {"status", "result"}, {"error", "fail", "failed", "failure"}
CODES = {"code", "status", "statuscode"}
# Keys of the body, and headers, that announce more items; and further places in the body for them.
CURSOR = re.compile(
    r"next(?:page|url|uri|href|link|cursor|token|offset|marker|key|start)*|continuation(?:token)?|cursor|lastevaluatedkey"
)
MORE = re.compile(r"\w*more\w*|hasnext\w*|(?:is)?truncated")
LAST = re.compile(r"(?:is)?last(?:page)?|end|done")  # false if there are more
TOTAL = re.compile(r"total(?!pages)\w*|\w*total|(?:total)?count|remaining")
PAGES = re.compile(r"(?:total)?pages|pagecount|lastpage")
LINK = re.compile(r'<([^>]*)>[^,<]*\brel="?next\b')
RANGE = re.compile(r"\D*\d+-\d+/(\d+)$")
EMPTY_TEXTS = {"", "null", "undefined", "none", "[]", "{}"}
USUAL = {"item", "data", "result", "row", "record", "content", "entry", "entrie", "node", "value", "list", "hit"}  # lists
UNASKED = "it may be among items that were not requested"
AROUND = {"pageinfo", "paging", "pagination", "page", "meta", "metadata", "links", "cursors"}


@dataclass(frozen=True)
class Served:
    """The items of one sample: of the first answer, and of all requested pages."""

    items: list[Item] = field(default_factory=list)
    first: int = 0  # how many of them were in the first answer
    unclear: str = ""  # why the items are unknown
    more: str = ""  # why there may be others, which were not requested
    doubt: str = ""  # why another list may be meant, if no item of this one has the field


def read(answer: Answer, path: str | None, url: str = "") -> Served:
    """Read the items of one answer, at the plan's path, else from its only list. Pure."""
    body = answer.json
    if body is None:
        return Served(unclear=f"the answer is {_form(answer.text)}, not JSON")
    if error := _error(body):
        return Served(unclear=f"the answer reports an error: {error}")
    if path is not None:
        found, place = at(body, path), path
        if not isinstance(found, list):
            what = "nothing is there" if found is ABSENT else f"there is {_kind(found)}"
            return Served(unclear=f"no list of items found at the plan's path {path}: {what}")
    else:
        lists = {"": body} if isinstance(body, list) else _lists(body)
        if len(lists) != 1 or set(lists) & ERRORS:
            named = f"lists at {', '.join(lists)}" if lists else "none at its top"
            return Served(unclear=f"no single list of items found ({named}); set api.items to its path")
        ((place, found),) = lists.items()
    if wrong := [item for item in found if not isinstance(item, dict) and item is not None]:
        return Served(unclear=f"the list at {place or 'the top'} has {_kind(wrong[0])}, which is not an item")
    items = [item for item in found if item is not None]
    around = ways(body, path) if path is not None else [body] if isinstance(body, dict) else []
    is_named = path is not None or not place or _stem(place) in {*USUAL, *map(_stem, urlsplit(url).path.split("/"))}
    doubt = "" if is_named else f"the only list is at {place}, which may be the wrong one; set api.items to its path"
    return Served(items, len(items), more=_more([*around, _headers(answer)], len(items)), doubt=doubt)


MOST_PAGES = 50
DEPTH = 3  # levels of objects inside an item to search for a field that no item has


def all_pages(first: Answer, url: str, path: str | None, next_page: NextPage | None, get: Callable[[str], Answer]) -> Served:
    """Read the items of a first answer and of its next pages, found by the plan, else by the header Link (RFC 8288)."""
    found, answer, seen = read(first, path, url), first, {url}
    items = list(found.items)
    where = next_page.at if next_page else "the header Link"
    while not found.unclear and (cursor := at(answer.json, next_page.at) if next_page else _link(answer)):
        following = _following(url, cursor, next_page.parameter if next_page else None)
        if following is None or following in seen or len(seen) >= MOST_PAGES:
            why = f"{where} has {cursor!r}, which does not lead to a further page of this API"
            more = why if following is None else f"the pages do not end after {len(seen)}"
            return replace(found, items=items, more=more)
        seen.add(following)
        answer = get(following)
        refused = Served(unclear=f"page {len(seen)} was answered {answer.status}")
        later = read(answer, path, url) if answer.status == OK else refused
        if later.unclear:
            return replace(found, items=items, unclear=later.unclear)
        items += later.items
    return replace(found, items=items, more="" if len(seen) > 1 else found.more)


def _following(url: str, cursor: Any, parameter: str | None) -> str | None:
    """Return the address of the next page, None if there is none at the same server."""
    if isinstance(cursor, bool) or not isinstance(cursor, str | int):
        return None
    if parameter is None:
        following = urljoin(url, str(cursor))
        return following if urlsplit(following)[:2] == urlsplit(url)[:2] else None
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != parameter]
    return urlunsplit(parts._replace(query=urlencode([*kept, (parameter, str(cursor))])))


def presence(served: Mapping[str, Served], name: str, omitted: Omitted, unsure: Mapping[str, str]) -> Found:
    """Check that every item of every sample has the field, filled at least once in each sample. Pure.

    Args:
        served: The served items of each sample.
        name: The field, as a path.
        omitted: The meaning of a missing field.
        unsure: Sample that may serve only rows without a value -> why.
    """
    every = [item for each in served.values() for item in each.items]
    lacking = sum(at(item, name) is ABSENT for item in every)
    filled = sum(holds(at(item, name)) for item in every)
    found = [_presence(each, name, omitted, unsure.get(sample, "")) for sample, each in served.items()]
    blank = [sample for sample, each in served.items() if not each.unclear and not _filled(each, name)]
    summary = f"{len(every)} items of {len(served)} samples: {lacking} without {name}, {filled} with a value in it"
    summary += f"; none at all in {', '.join(blank)}" if blank else ""
    return worst(status for status, _ in found), "; ".join([summary, *_said(served, found)])


def _presence(each: Served, name: str, omitted: Omitted, unsure: str) -> Found:
    if why := each.unclear or _misread(each, name):
        return Status.UNKNOWN, why
    lacking = sum(at(item, name) is ABSENT for item in each.items)
    if lacking and omitted == "missing":
        return Status.FAIL, ""
    if not _filled(each, name):
        if each.more:
            return Status.UNKNOWN, f"{UNASKED}: {each.more}"
        return (Status.UNKNOWN, unsure) if unsure else (Status.FAIL, "")
    if lacking and omitted is None:
        return Status.UNKNOWN, f"set api.omitted to whether an omitted {name} is empty or missing"
    return Status.PASS, ""


def absence(served: Mapping[str, Served], name: str, omitted: Omitted) -> Found:
    """Check that no item of any sample has a value in the field, and that each sample was served. Pure."""
    every = [item for each in served.values() for item in each.items]
    filled = sum(holds(at(item, name)) for item in every)
    unserved = [sample for sample, each in served.items() if not each.items and not each.unclear]
    found = [_absence(each, name, omitted) for each in served.values()]
    summary = f"{filled} of {len(every)} items have a value in {name}"
    summary += f"; no item was served of {', '.join(unserved)}" if unserved else ""
    return worst(status for status, _ in found), "; ".join([summary, *_said(served, found)])


def _absence(each: Served, name: str, omitted: Omitted) -> Found:
    if any(holds(at(item, name)) for item in each.items):
        return Status.FAIL, ""
    if why := each.unclear or _misread(each, name):
        return Status.UNKNOWN, why
    if not each.items:
        return Status.UNKNOWN, ""
    knows = omitted != "missing" or any(at(item, name) is not ABSENT for item in each.items)
    if each.more and knows:  # an API without the field has it on no page
        return Status.UNKNOWN, f"{UNASKED}: {each.more}"
    return Status.PASS, ""


def _misread(each: Served, name: str) -> str:
    """Return why a field that no item has may still exist; "" if it does not. Pure."""
    if any(at(item, name) is not ABSENT for item in each.items):
        return ""
    key = name.rpartition(".")[2].partition("[")[0].strip('"')
    inner = next((f"{outer} of an item" for item in each.items for outer in item if _holds_key(item[outer], key, DEPTH)), "")
    return f"no item has {name}, but {inner} has {key}; correct the path under api" if inner else each.doubt


def _holds_key(value: Any, key: str, depth: int) -> bool:
    if not isinstance(value, dict) or not depth:
        return False
    return key in value or any(_holds_key(inner, key, depth - 1) for inner in value.values())


def holds(value: Any) -> bool:
    """Check whether a value is filled; a list or an object is if any of its values is. Pure."""
    if isinstance(value, str):
        return value.strip().lower() not in EMPTY_TEXTS
    if isinstance(value, list):
        return any(map(holds, value))
    if isinstance(value, dict):
        return any(map(holds, value.values()))
    return bool(value)


def texts(value: Any) -> list[str]:
    """Return the texts of a field: its own, or those of its list. Pure."""
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    return []


def _filled(each: Served, name: str) -> bool:
    return any(holds(at(item, name)) for item in each.items)


def _said(served: Mapping[str, Served], found: list[Found]) -> Iterator[str]:
    said: dict[str, list[str]] = {}
    for sample, (_, why) in zip(served, found, strict=True):
        if why:
            said.setdefault(why, []).append(sample)
    yield from (f"{', '.join(samples)}: {why}" for why, samples in said.items())


def _lists(body: Any) -> dict[str, list[Any]]:
    return {key: value for key, value in body.items() if isinstance(value, list)} if isinstance(body, dict) else {}


def _error(body: Any) -> str:
    """Return the error in an answer in spite of its status, as in GraphQL; "" if there is none."""
    for key, value in body.items() if isinstance(body, dict) else ():
        name = _plain(key)
        if name in ERRORS and holds(value):
            return str(value)[:160]
        is_failed = name in STATES and isinstance(value, str) and value.lower() in FAILED
        is_code = name in CODES and (number := _number(value)) is not None and 400 <= number < 600
        if is_failed or is_code or (name in SAYS_SO and value is False) or (name in HAS_ERROR and value is True):
            return f"{key} is {json.dumps(value)}"
    return ""


def _more(around: list[Mapping[str, Any]], count: int) -> str:
    nested = [value for each in around for key, value in each.items() if isinstance(value, dict) and _plain(key) in AROUND]
    nested += [value for each in nested for key, value in each.items() if isinstance(value, dict) and _plain(key) in AROUND]
    for key, value in (pair for each in [*around, *nested] for pair in each.items()):
        name = _plain(key)
        goes_on = CURSOR.fullmatch(name) if value else LAST.fullmatch(name) if value is False else None
        if goes_on or (value is True and MORE.fullmatch(name)):
            return f"the answer has {key}; set api.next to how to request it, or api.rows to the rows it serves"
        number = _number(value.get("value") if isinstance(value, dict) else value)
        if number is not None and number > (1 if PAGES.fullmatch(name) else count if TOTAL.fullmatch(name) else number):
            what = f"the answer has {count} items and {key} {number}"
            return f"{what}; set api.next to how to request the rest, or api.rows to the rows it serves"
    return ""


def _headers(answer: Answer) -> dict[str, Any]:
    """Return the headers that announce more items, as if they were keys of the body."""
    found: dict[str, Any] = {
        name.removeprefix("x-"): {"true": True}.get(text, text) for name, text in answer.headers.items()
    }
    if matched := RANGE.match(answer.headers.get("content-range", "")):
        found["total"] = matched[1]
    return found | {"next": _link(answer)}


def _link(answer: Answer) -> str:
    found = LINK.search(answer.headers.get("link", ""))
    return found[1] if found else ""


def _number(value: Any) -> int | None:
    is_number = (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value.isdecimal())
    return int(value) if is_number else None


def _stem(word: str) -> str:
    return word.lower().removesuffix("s")


def _plain(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "").replace("@odata.", "")


def _form(text: str) -> str:
    start = text.lstrip()[:15].lower()
    if not start:
        return "empty"
    return (
        "HTML" if start.startswith(("<!doctype", "<html", "<head", "<body")) else "XML" if start.startswith("<") else "text"
    )


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
