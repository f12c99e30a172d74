"""Records rendered by each logger's own rules, with known levels: exactly the errors are found."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.logs import Severity, formats
from runbook_lib.logs.records import clean, records

BEGAN = datetime(2025, 11, 3, 12, tzinfo=UTC)
ERROR_LEVELS, OTHER_LEVELS = ("error", "fatal"), ("debug", "info", "warn")
NUMBERS = {"debug": 20, "info": 30, "warn": 40, "error": 50, "fatal": 60}
WORDS = [
    "no error", "0 ERROR", "Error: lost", "TypeError: x is no function", "level=error", '{"level":50}', "took 500 ms",
    "panic: no",
    "500", "FATAL", "order 7", "[error]", "Traceback (most recent call last):", 'column "a" does not exist', "é",
]  # fmt: skip

Render = Callable[[str, str, datetime], str]


def python_name(level: str) -> str:
    return {"warn": "WARNING", "fatal": "CRITICAL"}.get(level, level.upper())


def iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def coloured(text: str) -> str:
    return f"\x1b[31m{text}\x1b[39m"


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


RENDERED: dict[str, Render] = {
    "pino": lambda level, text, at: json.dumps({"level": NUMBERS[level], "time": epoch(at), "pid": 7, "msg": text}),
    "bunyan": lambda level, text, at: json.dumps({"name": "a", "level": NUMBERS[level], "msg": text, "time": iso(at)}),
    "winston": lambda level, text, at: json.dumps({"level": level, "message": text, "timestamp": iso(at)}),
    "structlog": lambda level, text, at: json.dumps({"event": text, "level": level.replace("fatal", "critical")}),
    "ECS": lambda level, text, at: json.dumps({"@timestamp": iso(at), "log.level": level.upper(), "message": text}),
    "winston, text": lambda level, text, at: f"{iso(at)} {level}: {text}",
    "winston, colours": lambda level, text, at: f"{coloured(level)}: {text}",
    "pino-pretty": lambda level, text, at: f"[{at:%H:%M:%S.123}] {coloured(level.upper())} (7): {text}",
    "Nest": lambda level, text, at: f"[Nest] 7  - {at:%m/%d/%Y, %I:%M:%S %p} {level.upper():>7} [Orders] {text}",
    "logfmt": lambda level, text, at: f"time={iso(at)} level={level} msg={quoted(text)} order=7",
    "logrus": lambda level, text, at: f"level={level} msg={quoted(text)}",
    "Python": lambda level, text, at: f"{at:%Y-%m-%d %H:%M:%S,123} - shop.orders - {python_name(level)} - {text}",
    "Python, basic": lambda level, text, at: f"{python_name(level)}:shop.orders:{text}",
    "uvicorn": lambda level, text, at: f"{python_name(level) + ':':<10}{text}",
    "loguru": lambda level, text, at: f"{at:%Y-%m-%d %H:%M:%S.123} | {python_name(level):<8} | shop:pay:12 - {text}",
    "gunicorn": lambda level, text, at: f"[{at:%Y-%m-%d %H:%M:%S} +0000] [7] [{python_name(level)}] {text}",
    "logback": lambda level, text, at: f"{at:%H:%M:%S.123} [main] {level.upper()} com.shop.Orders - {text}",
    "zap": lambda level, text, at: f"{iso(at)}\t{level.upper()}\tshop/main.go:7\t{text}",
    "PostgreSQL": lambda level, text, at: f"{at:%Y-%m-%d %H:%M:%S} UTC [7] {level.upper().replace('WARN', 'LOG')}:  {text}",
    "nginx": lambda level, text, at: f"{at:%Y/%m/%d %H:%M:%S} [{level.replace('fatal', 'crit')}] 31#31: *1 {text}",
    "Laravel": lambda level, text, at: f"[{at:%Y-%m-%d %H:%M:%S}] production.{python_name(level)}: {text}",
    "tracing": lambda level, text, at: f"{iso(at)} {level.upper().replace('FATAL', 'ERROR'):>5} shop::orders: {text}",
}  # fmt: skip
STATUSES = st.sampled_from([200, 201, 304, 400, 401, 404, 422, 499, 500, 502, 503, 504])
REQUESTS: dict[str, Callable[[int, str], str]] = {
    "combined": lambda status, path: f'10.0.0.7 - - [03/Nov/2025:12:00:00 +0000] "GET {path} HTTP/1.1" {status} 500 "Error"',
    "uvicorn": lambda status, path: f'INFO:     10.0.0.7:50000 - "POST {path} HTTP/1.1" {status} Name',
    "morgan": lambda status, path: f"PUT {path} {status} 500.1 ms - 500",
    "gin": lambda status, path: f'[GIN] 2025/11/03 - 12:00:00 | {status} |     500ms |  10.0.0.7 | GET      "{path}"',
    "pino-http": lambda status, path: json.dumps(
        {"level": 30, "req": {"method": "GET", "url": path}, "res": {"statusCode": status}, "msg": "request completed"}
    ),
}  # fmt: skip
TRACES: dict[str, list[str]] = {
    "Node": ["TypeError: x is not a function", "    at f (/app/a.js:1:2)", "    at async g (/app/b.js:1:2)"],
    "Python": ["Traceback (most recent call last):", '  File "/app/a.py", line 1, in f', "    g()", "KeyError: 'a'"],
    "Java": ["java.lang.IllegalStateException: x", "\tat com.shop.Orders.pay(Orders.java:1)", "\t... 12 more"],
}

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
leveled = st.tuples(st.sampled_from(sorted(RENDERED)), st.sampled_from(ERROR_LEVELS + OTHER_LEVELS), texts).map(
    lambda drawn: ([RENDERED[drawn[0]](drawn[1], drawn[2], BEGAN)], drawn[1] in ERROR_LEVELS)
)
requests = st.tuples(st.sampled_from(sorted(REQUESTS)), STATUSES, st.sampled_from(["/", "/orders/500", "/error?x=500"])).map(
    lambda drawn: ([REQUESTS[drawn[0]](drawn[1], drawn[2])], drawn[1] >= 500)
)
traces = st.sampled_from(sorted(TRACES)).map(lambda name: (TRACES[name], True))
CALM = (['{"level":30,"msg":"next"}'], False)  # a traceback right after an error of text is that error's own


@settings(max_examples=300, deadline=None, derandomize=True)
@given(drawn=st.lists(st.one_of(leveled, requests, traces), min_size=1, max_size=12))
def test_exactly_the_errors_are_found(drawn: list[tuple[list[str], bool]]) -> None:
    parts: list[tuple[list[str], bool]] = []
    for lines, is_error in drawn:
        parts += [CALM, (lines, is_error)] if len(lines) > 1 else [(lines, is_error)]

    found = records([line for lines, _ in parts for line in lines], formats())

    assert [(each.lines, each.severity is Severity.ERROR) for each in found] == parts
    assert [each.lines[0] for each in found if not each.format] == []


@settings(max_examples=100, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(RENDERED)), text=texts, days=st.integers(1, 400))
def test_an_error_is_of_the_same_kind_whenever_it_is_logged(name: str, text: str, days: int) -> None:
    first, second = records(
        [RENDERED[name]("error", text, at) for at in (BEGAN, BEGAN + timedelta(days, days * 7))], formats()
    )

    assert first.kind == second.kind


anything = st.text(max_size=60) | st.sampled_from([line for trace in TRACES.values() for line in trace])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(lines=st.lists(anything | leveled.map(lambda drawn: drawn[0][0])))
def test_every_line_is_in_one_record(lines: list[str]) -> None:
    found = [line for each in records(lines, formats()) for line in each.lines]

    assert found == [line for line in lines if clean(line).strip()]
