"""Requests that web servers log, as common, combined, uvicorn, morgan, gin, Rails: a status of 500 or more is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runbook_lib.logs import Format, Seen, Severity
from runbook_lib.logs.header import header

BROKEN = 500  # the first status that is the server's own fault
_METHOD = r"(?P<method>GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT)"
_STATUS = r"(?P<status>[1-5]\d\d)"
_AFTER = r"(?:\s*$|,|\s+(?:[-(\[\d\"|]|in \d|[A-Z]))"  # a size, a time, or the name of the status
_QUOTED = rf'"{_METHOD} (?P<path>\S+) HTTP/[\d.]+" {_STATUS}(?=\s|$)'
_COMMON = re.compile(
    rf'(?:\S+:\d+ )?\S+(?: \S+ \S+)? \[[^\]]{{1,40}}\] "(?:{_METHOD} (?P<path>\S+)[^"]*|(?:[^"\\]|\\.)*)" {_STATUS}(?= |$)'
)
_AT_MESSAGE = [
    re.compile(_QUOTED),  # Django's and Envoy's
    re.compile(rf"\S+:\d+ - {_QUOTED}"),  # uvicorn's
    re.compile(rf"[\d.:a-f]+ {_QUOTED}"),  # actix'
    re.compile(rf'"{_METHOD} (?P<path>\S+) HTTP/[\d.]+" from \S+ - {_STATUS} '),  # chi's
    re.compile(rf"\S+:\d+ \[{_STATUS}\]: {_METHOD} (?P<path>\S+)"),  # PHP's
    re.compile(rf"\S+:\d+ \[[^\]]+\] \S+ \S+/\S+ [-+\d/]+ {_STATUS} .{{1,300}}\"{_METHOD} (?P<path>\S+)"),  # HAProxy's
    re.compile(rf"HTTP {_METHOD} (?P<path>\S+) responded {_STATUS} in "),  # Serilog's
    re.compile(rf"Request finished HTTP/[\d.]+ {_METHOD} (?P<path>\S+)(?: \S+ \S+)? - {_STATUS} "),  # ASP.NET's
    re.compile(
        rf"(?:\S+ - )?\"?{_METHOD} (?P<path>/\S*?)\"?(?: HTTP/[\d.]+)?(?: ->| →| -| \([\d.]+ ?ms\))? {_STATUS}{_AFTER}"
    ),  # morgan's
    re.compile(rf"\| {_STATUS} \|.{{1,80}}?\|\s+{_METHOD}\s+[\"|] ?(?P<path>[^\"| ]*)"),  # gin's and Fiber's
    re.compile(rf"(?:Completed|Sent) {_STATUS}\b.{{0,60}}? in "),  # Rails' and Phoenix'
]
_BEFORE = re.compile(r"[\s:|-]*(?:(?:-->|xxx) )?")  # and Koa's
_TAGS = re.compile(r"[\s:|-]*(?:\[[^\]]*\]\s*)*")
_LOGGER = re.compile(r"[\s:|-]*(?:\[[^\]]*\]\s*)?(?:[A-Za-z][\w.]*(?::\s*|\s+-?\s*))?")

STATUS = """
    status statuscode status_code http_status response_status response_code downstreamstatus res.statuscode res.status
    response.status response.statuscode httprequest.status http.response.status_code http.status_code
""".split()  # noqa: SIM905  # read as a table
METHOD = """
    method request_method http_method verb requestmethod req.method request.method httprequest.requestmethod
    http.request.method http.method
""".split()  # noqa: SIM905
PATH = """
    url path uri request_uri route requesturl requestpath req.url req.path request.url request.uri request.path
    httprequest.requesturl url.path url.original http.url http.target
""".split()  # noqa: SIM905


def request(method: str, path: str, status: int) -> Seen:
    """Return what a request that was served says: its path without a query. Pure."""
    grave = Severity.ERROR if status >= BROKEN else Severity.NO_ERROR
    return Seen(grave, f"{method} {path.partition('?')[0]} {status}".strip())


def served(fields: Mapping[str, Any]) -> Seen | None:
    """What fields of a record say of a request, by their names in small letters; None where they are of none. Pure."""
    method = _first(fields, METHOD)
    path = _first(fields, PATH)
    status = _first(fields, STATUS)
    if not method and " " in (line := str(fields.get("request", ""))):  # nginx' "GET /path HTTP/1.1"
        method, path = line.split()[:2]
    if not (method and path and status.isdecimal() and 100 <= int(status) < 600):
        return None
    return request(method, path, int(status))


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((str(fields[name]) for name in names if isinstance(fields.get(name), str | int)), "")


def _places(line: str) -> Iterator[int]:
    """Return where a request may begin in a line: where the message does, and after a logger's name."""
    for at in (0, *header(line).starts):
        yield from (each.end() for pattern in (_BEFORE, _TAGS, _LOGGER) if (each := pattern.match(line, at)))
    if (column := line.find("| ")) >= 0:
        yield column


def look(line: str) -> Seen | None:
    """Return what the status of the request that a line logs says of it. Pure."""
    found = _COMMON.match(line)
    if not found:
        places = list(_places(line))
        found = next((match for at in places for each in _AT_MESSAGE if (match := each.match(line, at))), None)
        found = found or next((match for at in places if (match := _COMMON.match(line, at))), None)
    if not found:
        return None
    named = found.groupdict()
    return request(named.get("method") or "", named.get("path") or "", int(named["status"]))


ACCESS = Format("access", look, one_line=True)
