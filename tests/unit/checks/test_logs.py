"""The check of logs: lines that fail it, UNKNOWN results, and lines logged before the release too."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runbook_lib import checks
from runbook_lib.checks import CheckContext
from runbook_lib.checks.logs import LINES, LogsKeys
from runbook_lib.documents import load_plan
from runbook_lib.errors import ParametersError
from runbook_lib.journal.state import StepState
from runbook_lib.logs import patterns
from runbook_lib.results import Result, Status

from ...support.checking import check
from ...support.places import WRITTEN_OUT

NAME = "no-backend-errors"
UP = "2025-11-03T12:00:02Z INFO up"
RELEASED = "2025-11-03T10:00:00Z"


def looked(checked: CheckContext, world: Any, *lines: str, **keys: Any) -> Result:
    """The check of a backend that has logged some lines, next to a worker that logs that it is up."""
    world.services.lines.update(worker=[UP, '{"level":30,"msg":"up"}'], backend=list(lines))
    plan = checked.context.plan
    spec = LogsKeys.model_validate({**plan.checks[NAME].model_dump(), **keys})
    checked.context.plan = plan.model_copy(update={"checks": {**plan.checks, NAME: spec}})
    return check(checked, NAME)


@pytest.mark.parametrize(
    ("lines", "status", "said"),
    [
        pytest.param(["2025-11-03T12:00:01Z INFO up"], "PASS", "1 lines of backend (1 leveled)", id="no error"),
        pytest.param(["2025-11-03T12:00:01Z ERROR lost"], "FAIL", "backend: 2025-11-03T12:00:01Z ERROR lost", id="error"),
        pytest.param(["2025-11-03T12:00:01Z INFO x", "Traceback (most recent call last):"], "FAIL", "1 errors", id="trace"),
        pytest.param(["2025-11-03T12:00:01Z INFO 0 ERRORS"], "PASS", "no error", id="a longer word"),
        pytest.param(
            ["2025-11-03T11:00:00Z ERROR old", "2025-11-03T12:00:01Z INFO up"], "PASS", "no error", id="an older error"
        ),
        pytest.param([], "UNKNOWN", "nothing was logged since 2025-11-03T12:00:00+00:00 by backend", id="nothing"),
        pytest.param(["2025-11-03T11:00:00Z INFO up"], "UNKNOWN", "nothing was logged", id="nothing since then"),
        pytest.param(
            ["up", '{"level":30,"msg":"x"}'], "PASS", "2 lines of backend (1 json, 1 of unknown format)", id="mixed"
        ),
        pytest.param(["server listening"], "UNKNOWN", "no line of backend is of a known format", id="no format"),
        pytest.param(['{"value":1}', '{"value":2}'], "UNKNOWN", "no line of backend is of a known format", id="no level"),
        pytest.param(["\x00\x07\ufffd"], "UNKNOWN", "no line of backend is of a known format", id="binary"),
        pytest.param(["", " "], "UNKNOWN", "nothing was logged", id="blank"),
        pytest.param(['{"level":"audit","msg":"x"}', UP], "UNKNOWN", 'backend: {"level":"audit"', id="an unknown level"),
        pytest.param(['{"level":"audit","msg":"x"}', "TypeError: x"], "FAIL", "TypeError: x", id="an error next to it"),
    ],
)
def test_logs(checked: CheckContext, world: Any, lines: list[str], status: str, said: str) -> None:
    found = looked(checked, world, *lines)

    assert (found.status, said in found.summary) == (status, True), found.summary


NODE = r"""
{"level":30,"time":1764410000000,"msg":"server listening on 3000"}
{"level":50,"time":1764410001000,"err":{"type":"DatabaseError","message":"column \"attachments\" does not exist"},"msg":"x"}
{"level":60,"time":1764410001500,"msg":"giving up"}
Error: connect ECONNREFUSED 127.0.0.1:5432
    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1607:16)
TypeError: Cannot read properties of undefined (reading 'map')
QueryFailedError: column Message.attachments does not exist
PrismaClientKnownRequestError: The column `messages.attachments` does not exist in the current database.
UnhandledPromiseRejection: This error originated inside an async function
level=error msg="pool exhausted"
GET /api/messaging/conversations/1/messages 500 12.301 ms - 52
"""
CALM = ["INFO finished: 0 ERROR, 3 ok", '{"level":30,"msg":"set LOG_LEVEL to ERROR with SIGUSR2"}']


def test_what_node_logs_is_seen_and_what_mentions_errors_is_not(checked: CheckContext, world: Any) -> None:
    lines = [*NODE.strip().splitlines(), "\x1b[31merror\x1b[39m: winston with colours"]

    found, calm = looked(checked, world, *lines), looked(checked, world, *CALM)

    assert (found.status, found.summary.partition(" since")[0]) == ("FAIL", "10 errors of 10 kinds")
    assert (calm.status, "2 lines of backend (1 json, 1 leveled)" in calm.summary) == ("PASS", True)


@pytest.mark.parametrize(
    ("lines", "keys", "status"),
    [
        pytest.param(["lost 3 rows"], {"errors": ["^lost"]}, "FAIL", id="a pattern of an error"),
        pytest.param(["all is well"], {"errors": ["^lost"]}, "PASS", id="nothing matches it, and there it is enough"),
        pytest.param(["ERROR noise 7"], {"not_errors": [r"noise \d"]}, "PASS", id="known noise"),
        pytest.param(["ERROR noise 7", "ERROR loss"], {"not_errors": ["noise"]}, "FAIL", id="noise, and another"),
        pytest.param(["lost"], {"errors": ["lost"], "not_errors": ["lost"]}, "PASS", id="noise counts more"),
        pytest.param(["ERROR a", "    at b"], {"not_errors": ["at b"]}, "PASS", id="noise by a line of its trace"),
        pytest.param(["\x1b[31mERROR\x1b[0m a"], {"not_errors": ["^ERROR a$"]}, "PASS", id="without colours"),
        pytest.param(['{"level":"audit","msg":"x"}'], {"not_errors": ["audit"]}, "PASS", id="a level that the plan knows"),
        pytest.param(["ERROR a", "{}"], {"formats": ["json"]}, "UNKNOWN", id="another format is not looked for"),
        pytest.param(["ERROR a", '{"level":30}'], {"formats": ["json"]}, "PASS", id="nor counted"),
        pytest.param(["ERROR a"], {"formats": [], "errors": ["lost"]}, "PASS", id="patterns alone"),
    ],
)
def test_a_plan_says_what_is_an_error(
    checked: CheckContext, world: Any, lines: list[str], keys: dict[str, Any], status: str
) -> None:
    assert looked(checked, world, *lines, **keys).status == status


def test_a_pattern_that_does_not_end_is_unknown(checked: CheckContext, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.5)

    found = looked(checked, world, "INFO " + "a" * 60, errors=["(a+)+$x"])

    assert (found.status, "did not end within 0.5 s" in found.summary) == (Status.UNKNOWN, True)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("errors: ['(lost']", "it is no regular expression: missing ), unterminated subpattern"),
        ("not_errors: ['.*']", "it matches every line"),
        ("not_errors: [noise, '']", "it matches every line"),
        ("formats: [log4j]", "the format 'log4j' does not exist; use one of access, exceptions, json, leveled, logfmt"),
        ("formats: []", "so it cannot find any"),
        ("released: '2025-11-03T10:00:00'", "it has no offset from UTC"),
        ("released: yesterday", "Invalid isoformat string"),
        ("pattern: x", "unknown key"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(tmp_path: Path, keys: str, said: str) -> None:
    file = tmp_path / "plan.yaml"
    text = WRITTEN_OUT.read_text()
    line = next(n for n, each in enumerate(text.splitlines(), 1) if each.startswith(f"  {NAME}: "))
    file.write_text(text.replace("services: [backend, worker]}\n", f"services: [backend, worker], {keys}}}\n", 1))

    with pytest.raises(ParametersError) as raised:
        load_plan(file)

    assert (f"line {line}: checks.{NAME}" in str(raised.value), said in str(raised.value)) == (True, True), raised.value


def test_the_lines_with_errors_are_kept_with_their_traces(checked: CheckContext, world: Any) -> None:
    frames = [f"    at f{n} (/app/a.js:{n}:1)" for n in range(LINES + 9)]

    found = looked(checked, world, "2025-11-03T12:00:01Z ERROR one", UP, "TypeError: two", *frames, UP)

    kept = (checked.context.folder.path / found.evidence["text"]).read_text().splitlines()
    assert kept[:3] == ["backend: 2025-11-03T12:00:01Z ERROR one", "backend: TypeError: two", f"backend: {frames[0]}"]
    assert (len(kept), kept[-1]) == (1 + LINES + 1, "backend: … 10 more lines")


def test_a_secret_in_a_line_is_not_kept(checked: CheckContext, world: Any) -> None:
    found = looked(checked, world, "ERROR cannot connect to postgres://shop:canary-pass-9@db/shop")

    kept = (checked.context.folder.path / found.evidence["text"]).read_text()
    assert ("cannot connect to" in kept, "canary-pass-9" in kept + str(found)) == (True, False)


def test_a_service_that_this_run_started_is_judged_from_its_own_start(checked: CheckContext, world: Any) -> None:
    checked.started = {"backend": datetime(2025, 11, 3, 12, 0, 4, tzinfo=UTC)}

    assert looked(checked, world, "2025-11-03T12:00:01Z ERROR lost", "2025-11-03T12:00:05Z INFO up").status is Status.PASS


def test_logs_that_cannot_be_read_are_unknown(checked: CheckContext, world: Any) -> None:
    world.services.reachable = False

    assert check(checked, NAME).status is Status.UNKNOWN


# --- what was logged before the release

OLD, OLD_NOW = "2025-11-03T09:00:00Z ERROR order 7 is late", "2025-11-03T12:00:01Z ERROR order 8 is late"
NEW = "2025-11-03T12:00:02Z ERROR column x does not exist"


@pytest.mark.parametrize(
    ("lines", "keys", "status", "said"),
    [
        pytest.param([OLD, OLD_NOW], {"released": RELEASED}, "PASS", "1 errors of 1 kind that were also logged", id="old"),
        pytest.param([OLD, OLD_NOW, NEW], {"released": RELEASED}, "FAIL", "1 errors of 1 kind since", id="old and new"),
        pytest.param([OLD, NEW], {"released": RELEASED}, "FAIL", "none is of a kind that was logged before", id="new"),
        pytest.param([OLD_NOW], {"released": RELEASED}, "FAIL", "no log from that time", id="no log from before"),
        pytest.param([OLD, OLD_NOW], {}, "FAIL", "its time is unknown: set released", id="no release"),
        pytest.param([OLD_NOW], {"released": "2999-01-01T00:00:00Z"}, "FAIL", "after the start of this run", id="too late"),
        pytest.param(
            [OLD, OLD_NOW], {"released": "2025-11-03T08:00:00Z"}, "FAIL", "no log from that time", id="since the release"
        ),
        pytest.param(
            [OLD.replace("ERROR", "INFO"), OLD_NOW], {"released": RELEASED}, "FAIL", "none is of a kind", id="no error then"
        ),
        pytest.param(["ERROR order 7 is late"], {"released": RELEASED}, "FAIL", "no log from that time", id="no time"),
    ],
)
def test_what_was_logged_before_the_release_is_counted_apart(
    checked: CheckContext, world: Any, lines: list[str], keys: dict[str, Any], status: str, said: str
) -> None:
    found = looked(checked, world, *lines, **keys)

    assert (found.status, said in found.summary) == (status, True), found.summary


def test_an_error_of_another_service_before_the_release_clears_nothing(checked: CheckContext, world: Any) -> None:
    world.services.lines["frontend"] = [OLD, OLD_NOW]

    found = looked(checked, world, OLD_NOW, services=["backend", "frontend"], released=RELEASED)

    assert (found.status, found.summary.partition(" since")[0]) == ("FAIL", "1 errors of 1 kind")
    assert found.findings == ["backend: order # is late"]
    assert (found.evidence["errors"], found.evidence["before"]) == ([f"backend: {OLD_NOW}"], [f"frontend: {OLD_NOW}"])


def test_logs_count_from_where_they_ended_when_the_service_was_started(
    checked: CheckContext, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = {"backend": {"size": 7}}
    step = StepState("start-services", "Start", "done", outcome={"logs": ends})
    checked.context.state = replace(checked.context.state, steps={"start-services": step})
    asked: dict[str, Any] = {}
    monkeypatch.setattr(world.services, "logs", lambda name, since, mark: asked.update({name: mark}) or ["INFO fine"])

    assert check(checked, NAME).status is Status.PASS
    assert {name: mark for name, mark in asked.items() if mark} == ends


@pytest.mark.parametrize(
    ("lines", "errors", "status"),
    [
        pytest.param([UP, "ready"], [], "PASS", id="a line of a known format"),
        pytest.param([], [], "PASS", id="nothing logged, so nothing known"),
        pytest.param(["ready"], [], "UNKNOWN", id="none of a known format"),
        pytest.param(["ready"], ["^could not"], "PASS", id="the plan says what an error is"),
    ],
)
def test_a_log_that_no_error_could_be_seen_in_is_known_beforehand(
    checked: CheckContext, world: Any, lines: list[str], errors: list[str], status: str
) -> None:
    looked(checked, world, *lines, errors=errors)
    look = checks.kind("logs").beforehand
    assert look

    found, said = look(checked.context, NAME)

    assert (found, "backend is of a known format" in said) == (status, status == "UNKNOWN")
