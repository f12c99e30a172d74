"""Requests that web servers log, as common, combined, uvicorn, morgan, gin, Rails: a status of 500 or more is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runbook_lib.logs import Format, Seen, Severity
from runbook_lib.logs.header import header

BROKEN = 500  # the first status that is the server's own fault
_METHOD = r"(?P<method>GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT)"
_STATUS = r"(?P<status>[1-5]\d\d)"
_AFTER = r"(?:\s*$|,|\s+(?:[-(\[\d\"|]|in \d|[A-Z]))"  # a size, a time, or the name of the status
_QUOTED = rf'"{_METHOD} (?P<path>\S+) HTTP/[\d.]+" {_STATUS}(?=\s|$)'
_COMMON = re.compile(
    rf'(?:\S+:\d+ )?\S+ \S+ \S+ \[[^\]]{{1,40}}\] "(?:{_METHOD} (?P<path>\S+)[^"]*|(?:[^"\\]|\\.)*)" {_STATUS}(?= |$)'
)
_AT_MESSAGE = [
    re.compile(_QUOTED),  # Django's and Envoy's
    re.compile(rf"\S+:\d+ - {_QUOTED}"),  # uvicorn's
    re.compile(rf"(?:\S+ - )?{_METHOD} (?P<path>/\S*)(?: HTTP/[\d.]+)?(?: ->| →| -)? {_STATUS}{_AFTER}"),  # morgan's
    re.compile(rf"\| {_STATUS} \|.{{1,80}}?\|\s+{_METHOD}\s+\"(?P<path>[^\"]*)\""),  # gin's
    re.compile(rf"(?:Completed|Sent) {_STATUS}\b.{{0,60}}? in "),  # Rails' and Phoenix'
]
_LOGGER = re.compile(r"[\s:|-]*(?:\[[^\]]*\]\s*)?(?:[A-Za-z][\w.]*(?::\s*|\s+-?\s*))?")

STATUS = ("status", "statuscode", "status_code", "http_status", "response_status", "res.statuscode", "response.status")
METHOD = ("method", "request_method", "http_method", "req.method", "request.method", "verb", "requestmethod")
PATH = ("url", "path", "uri", "request_uri", "req.url", "request.url", "request.uri", "request.path", "route", "requesturl")


def request(method: str, path: str, status: int) -> Seen:
    """What a request that was served says: its path without a query. Pure."""
    grave = Severity.ERROR if status >= BROKEN else Severity.NO_ERROR
    return Seen(grave, f"{method} {path.partition('?')[0]} {status}".strip())


def served(fields: Mapping[str, Any]) -> Seen | None:
    """What fields of a record say of a request, by their names in small letters; None where they are of none. Pure."""
    method = next((str(fields[name]) for name in METHOD if fields.get(name)), "")
    path = next((str(fields[name]) for name in PATH if fields.get(name)), "")
    status = next((str(fields[name]) for name in STATUS if fields.get(name)), "")
    if not method and " " in (line := str(fields.get("request", ""))):  # nginx' "GET /path HTTP/1.1"
        method, path = line.split()[:2]
    if not (method and path and status.isdecimal() and 100 <= int(status) < 600):
        return None
    return request(method, path, int(status))


def look(line: str) -> Seen | None:
    """What the status of the request that a line logs says of it. Pure."""
    found = _COMMON.match(line)
    place = header(line)
    if not found:
        message = place.end if place.severity is not None else place.named
        after = _LOGGER.match(line, message)
        starts = [message + len(line[message:]) - len(line[message:].lstrip(" \t:|-")), after.end() if after else message]
        starts += [line.find("|")] if line.startswith("[GIN]") else []
        places = [at for at in dict.fromkeys(starts) if at >= 0]
        found = next((match for at in places for each in _AT_MESSAGE if (match := each.match(line, at))), None)
        found = found or next((match for at in places if (match := _COMMON.match(line, at))), None)
    if not found:
        return None
    named = found.groupdict()
    return request(named.get("method") or "", named.get("path") or "", int(named["status"]))


ACCESS = Format("access", look)
