"""Lines that are each a JSON object with a level: pino, bunyan, winston, structlog, zap, Serilog, ECS, GELF, MongoDB."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from runbook_lib.logs import Format, Seen, Severity, severity
from runbook_lib.logs.access import served
from runbook_lib.logs.header import header

LEVEL = (
    "level_name", "levelname", "level", "severity", "lvl", "loglevel", "log_level", "log.level", "@l", "l", "severity_text",
    "severitytext",
)  # fmt: skip
SAID = ("msg", "message", "event", "short_message", "@m", "m", "error", "err", "exception", "exc_info", "stack", "code")
STACK = ("stack", "stacktrace", "stack_trace", "exc_info", "exception", "err.stack", "error.stack", "error.stack_trace")
# Numbers for levels, by what else a record has: the key that says it, the lowest or highest number of an error.
PINO, PYTHON, MONOLOG, SYSLOG = 50, 40, 400, 3
_DECODER = json.JSONDecoder()


def record(line: str) -> dict[str, Any] | None:
    """The object that a line holds, after a header where it has one; None where it holds none. Pure."""
    if "{" not in line[:200]:
        return None
    places = (0,) if line.startswith("{") else header(line[:1000]).places
    at = next((place for place in places if line.startswith("{", place)), None)
    if at is None:
        return None
    try:
        found, end = _DECODER.raw_decode(line, at)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and not line[end:].strip() else None


def look(line: str) -> Seen | None:
    """What the level of a record says, or the status of the request that it logs, or its stack trace. Pure."""
    found = record(line)
    if found is None:
        return None
    fields = {name.lower(): value for name, value in _flat(found)}
    grave, request = _level(fields), served(fields)
    if request and (grave is None or request.severity > grave):
        return request
    if grave is None:
        if not any(isinstance(fields.get(name), str) and "\n" in fields[name] for name in STACK):
            return None
        grave = Severity.ERROR
    said = " ".join(text for name in SAID for text in _said(fields, name))
    return Seen(grave, said or line)


def _flat(found: Mapping[str, Any], depth: int = 3) -> Iterator[tuple[str, Any]]:
    """The fields of a record and of the objects in it, as paths."""
    for name, value in found.items():
        yield name, value
        if isinstance(value, dict) and depth:
            yield from ((f"{name}.{inner}", each) for inner, each in _flat(value, depth - 1))


def _level(fields: Mapping[str, Any]) -> Severity | None:
    """How grave a record is by its level; None where it has none."""
    if "levelno" in fields and _is_number(fields["levelno"]) and "levelname" not in fields:
        return _by(float(fields["levelno"]) >= PYTHON)
    if isinstance(fields.get("s"), str) and "c" in fields and "id" in fields:
        return _by(fields["s"] in ("E", "F"))  # MongoDB
    level = next((fields[name] for name in LEVEL if fields.get(name) not in (None, "", {})), None)
    if level is None:
        if "priority" in fields and "message" in fields:
            level = fields["priority"]  # journald
        elif "@t" in fields and ("@m" in fields or "@mt" in fields):
            return Severity.NO_ERROR  # Serilog leaves Information out
        else:
            return None
    if not _is_number(level):
        return severity(level) if isinstance(level, str) else Severity.UNCLEAR
    number = float(level)
    if number < 10:  # syslog's, the smaller the graver
        return _by(number <= SYSLOG) if {"short_message", "priority"} & fields.keys() else Severity.UNCLEAR
    return _by(number >= (MONOLOG if number >= 100 else PINO))


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


JSON = Format("json", look, longest=1_000_000)
