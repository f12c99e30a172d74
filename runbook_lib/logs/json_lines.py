"""Objects with a level, as JSON or as Node prints them: pino, bunyan, winston, zap, Serilog, ECS, GELF, MongoDB."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from runbook_lib.logs import Format, Seen, Severity, severity
from runbook_lib.logs.access import served
from runbook_lib.logs.header import header

LEVEL = (
    "level_name", "levelname", "level", "severity", "lvl", "loglevel", "log_level", "log.level", "@l", "l", "severity_text",
    "severitytext", "error_severity", "level.name", "level.levelstr", "levelstr", "record.level.name",
)  # fmt: skip
SAID = ("msg", "message", "event", "short_message", "@m", "m", "error", "err", "exception", "exc_info", "stack", "code")
STACK = ("stack", "stacktrace", "stack_trace", "exc_info", "exception", "err.stack", "error.stack", "error.stack_trace")
# Numbers for levels, by what else a record has: the key that says it, the lowest or highest number of an error.
PINO, PYTHON, MONOLOG, JAVA, SYSLOG, OPEN_TELEMETRY = 50, 40, 400, 40_000, 3, 17
_DECODER = json.JSONDecoder()
_SCALAR = re.compile(  # of an object that is cut off, or printed by Node: a key with a text, a number or a word
    r"""\s*(["']?)(?P<key>[\w.@-]+)\1\s*:\s*(?:"(?P<double>[^"\\]*(?:\\.[^"\\]*)*)"|'(?P<single>[^'\\]*(?:\\.[^'\\]*)*)'"""
    r"""|(?P<number>-?\d[\d.]*)|\w+)\s*(?:,|\}|$)"""
)


def look(line: str) -> Seen | None:
    """Return what the level of a record says, or the status of the request that it logs, or its stack trace. Pure."""
    if "{" not in line[:200]:
        return _trailing(line)
    places = (0,) if line.startswith("{") else header(line[:1000]).places
    at = next((place for place in places if line.startswith("{", place)), None)
    if at is None:
        return _trailing(line)
    found = _objects(line, at) or [_leading(line, at + 1)]
    return max(filter(None, map(_seen, found)), key=lambda each: each.severity, default=None)


def _objects(line: str, at: int) -> list[Mapping[str, Any]]:
    """Return the objects that a line holds from a place to its end; none where anything else is there."""
    found: list[Mapping[str, Any]] = []
    while at < len(line):
        try:
            one, at = _DECODER.raw_decode(line, at)
        except (ValueError, RecursionError):
            return []
        if not isinstance(one, dict):
            return []
        found.append(one)
        while line[at : at + 1] in (",", " "):
            at += 1
    return found


def _leading(line: str, at: int) -> Mapping[str, Any]:
    """Return the fields at the beginning of an object that is no whole JSON, up to the first that is no text or number."""
    found: dict[str, Any] = {}
    while match := _SCALAR.match(line, at):
        at = match.end()
        if (text := match["double"] or match["single"] or match["number"]) is not None:
            found[match["key"]] = text
    return found


def _trailing(line: str) -> Seen | None:
    """Return what a line of text says of a request by the fields at its end; their level is none of the line's."""
    return requested(line) if line.endswith("}") and line.find("{") > 0 else None


def requested(line: str) -> Seen | None:
    """What the first object of a line says of a request, whatever its level; None where it says nothing of one. Pure."""
    at = line.find("{")
    return next((served(_fields(one)) for one in _objects(line, at)), None) if at >= 0 else None


def _fields(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower().removeprefix("meta."): value for name, value in _flat(found)}


def _seen(found: Mapping[str, Any]) -> Seen | None:
    fields = _fields(found)
    grave, request = _level(fields), served(fields)
    if request and (grave is None or request.severity > grave):
        return request
    if grave is None:
        if not any(isinstance(fields.get(name), str) and "\n" in fields[name] for name in STACK):
            return None
        grave = Severity.ERROR
    said = " ".join(text for name in SAID for text in _said(fields, name))
    return Seen(grave, said or str(found))


def _flat(found: Mapping[str, Any], depth: int = 3) -> Iterator[tuple[str, Any]]:
    """Return the fields of a record and of the objects in it, as paths."""
    for name, value in found.items():
        yield name, value
        if isinstance(value, dict) and depth:
            yield from ((f"{name}.{inner}", each) for inner, each in _flat(value, depth - 1))


def _level(fields: Mapping[str, Any]) -> Severity | None:
    """Return how grave a record is by its level; None where it has none."""
    if "levelno" in fields and _is_number(fields["levelno"]) and "levelname" not in fields:
        return _by(float(fields["levelno"]) >= PYTHON)
    if isinstance(fields.get("s"), str) and "c" in fields and "id" in fields:
        return _by(fields["s"] in ("E", "F"))  # MongoDB
    level = next(
        (fields[name] for name in LEVEL if fields.get(name) not in (None, "") and not isinstance(fields[name], dict)), None
    )
    if level is None:
        if "priority" in fields and "message" in fields:
            level = fields["priority"]  # journald
        elif _is_number(number := fields.get("severitynumber", fields.get("severity_number"))):
            return _by(float(number) >= OPEN_TELEMETRY)
        elif "@t" in fields and ("@m" in fields or "@mt" in fields):
            return Severity.NO_ERROR  # Serilog leaves Information out
        else:
            return None
    if not _is_number(level):
        return severity(level) if isinstance(level, str) else Severity.UNCLEAR
    number = float(level)
    if number < 10:  # syslog's, the smaller the graver
        return _by(number <= SYSLOG) if {"short_message", "priority"} & fields.keys() else Severity.UNCLEAR
    if number < 1000:
        return _by(number >= (MONOLOG if number >= 100 else PINO))
    return _by(number >= JAVA) if number >= JAVA / 8 else Severity.UNCLEAR


def _by(is_error: bool) -> Severity:
    return Severity.ERROR if is_error else Severity.NO_ERROR


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value.isdecimal()
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(fields: Mapping[str, Any], name: str) -> Iterator[str]:
    value = fields.get(name)
    if isinstance(value, dict):
        yield from (str(value[key]) for key in ("type", "name", "message", "code") if isinstance(value.get(key), str | int))
    elif isinstance(value, str) and value:
        lines = value.strip().splitlines()
        yield lines[-1] if lines[0].startswith("Traceback ") else lines[0]


JSON = Format("json", look, longest=10_000_000)
