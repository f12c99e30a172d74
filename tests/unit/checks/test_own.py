"""The kinds of check that any rollback needs, on real servers and commands: http, metric and command."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib import checks
from runbook_lib.checks import CheckContext
from runbook_lib.checks.command import CommandKeys
from runbook_lib.checks.http import HttpKeys
from runbook_lib.checks.metric import MetricKeys
from runbook_lib.config.plan import CheckSpec
from runbook_lib.config.target import Metrics, NamedCommand, SecretReference
from runbook_lib.documents import load_plan
from runbook_lib.errors import AdapterError, ParametersError
from runbook_lib.results import Result
from runbook_lib.system.http import DirectHttp, is_open
from runbook_lib.system.processes import LocalProcesses

from ...support.checking import check, given
from ...support.places import WRITTEN_OUT
from ...support.prometheus import Prometheus, Series, prometheus
from ...support.web_site import Site, serving

TOKEN = "canary-token-8c31"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as made:
        yield made


@pytest.fixture
def metrics() -> Iterator[Prometheus]:
    with prometheus() as made:
        yield made


@pytest.fixture
def real(checked: CheckContext) -> Iterator[CheckContext]:
    """A round whose requests and commands are real."""
    http = DirectHttp()
    given(checked.context, http=http, listens=is_open, processes=LocalProcesses())
    yield checked
    http.close()


def with_check(checked: CheckContext, spec: CheckSpec) -> CheckContext:
    plan = checked.context.plan
    checked.context.plan = plan.model_copy(update={"checks": {**plan.checks, "own": spec}})
    return checked


def with_target(checked: CheckContext, **keys: Any) -> CheckContext:
    checked.context.target = checked.context.target.model_copy(update=keys)
    return checked


# --- http


def asked(checked: CheckContext, **keys: Any) -> Result:
    return check(with_check(checked, HttpKeys.model_validate({"kind": "http", "title": "Answers", **keys})), "own")


JSON = b'{"status":"up","checks":[{"name":"db","ok":true,"open":0}],"version":null}'


@pytest.fixture
def served(site: Site) -> Site:
    def guarded(header: str | None) -> tuple[int, str, bytes]:
        return (200, "text/plain", b"in") if header == f"Bearer {TOKEN}" else (401, "text/plain", b"out")

    site.pages |= {
        "/health": (200, "application/json; charset=utf-8", JSON),
        "/broken": (500, "text/html", b"<h1>no</h1>"),
        "/old": (301, "text/plain", b""),
        "/guarded": guarded,
        "/headers": (200, "text/plain", b""),
        "/busy": (429, "text/plain", b""),
    }
    site.headers["/headers"] = {
        "Vary": "Accept-Encoding, Origin",
        "Cache-Control": "private, max-age=60",
        "X-Version": "1.2.3",
    }
    site.headers["/old"] = {"Location": "https://shop.test/new"}
    return site


@pytest.mark.parametrize(
    ("keys", "status", "said"),
    [
        ({"path": "/health"}, "PASS", "answered 200 in"),
        ({"path": "/health", "headers": {"CONTENT-type": "application/json"}}, "PASS", "and CONTENT-type as expected"),
        (
            {"path": "/health", "json": {"status": "up", "checks[0].ok": True, "version": None}},
            "PASS",
            "and status",
        ),
        ({"path": "/broken", "status": 500}, "PASS", "answered 500"),
        ({"path": "/old", "status": 301, "headers": {"location": "/new"}}, "PASS", "answered 301"),
        (
            {"path": "/headers", "headers": {"vary": "accept-encoding", "cache-control": "max-age=60"}},
            "PASS",
            "answered 200",
        ),
        ({"path": "/headers", "headers": {"cache-control": "max-age=6"}}, "FAIL", "its header cache-control is"),
        ({"path": "/headers", "headers": {"x-version": "1.2"}}, "FAIL", "its header x-version is 1.2.3, not 1.2"),
        ({"path": "/busy"}, "UNKNOWN", "answered 429, which does not show"),
        ({"path": "/busy", "status": 429}, "PASS", "answered 429"),
        ({"path": "/broken"}, "FAIL", "its status is not 200"),
        ({"path": "/nowhere"}, "FAIL", "answered 404"),
        ({"path": "/old"}, "FAIL", "a redirect to https://shop.test/new"),
        (
            {"path": "/health", "headers": {"content-type": "text/html"}},
            "FAIL",
            "its header content-type is application/json",
        ),
        ({"path": "/health", "headers": {"x-build": "7"}}, "FAIL", "its header x-build is missing"),
        ({"path": "/health", "json": {"status": "down"}}, "FAIL", "status is 'up', not 'down'"),
        ({"path": "/health", "json": {"checks[0].ok": 1}}, "FAIL", "checks[0].ok is True, not 1"),
        ({"path": "/health", "json": {"checks[0].open": False}}, "FAIL", "checks[0].open is 0, not False"),
        ({"path": "/health", "json": {"checks[1].ok": True}}, "FAIL", "checks[1].ok is missing"),
        ({"path": "/health", "json": {"gone": None}}, "FAIL", "gone is missing"),
        ({"path": "/broken", "status": 500, "json": {"a": 1}}, "FAIL", "it is not JSON"),
        ({"path": "/hangs", "seconds": 0.2}, "FAIL", "accepted the connection but did not answer within 0.2 s"),
        ({"path": "/drips", "seconds": 0.2}, "FAIL", "did not answer within 0.2 s"),
    ],
)
def test_an_address_answers_as_the_plan_says(
    real: CheckContext, served: Site, keys: dict[str, Any], status: str, said: str
) -> None:
    with_target(real, endpoints={"shop": served.url})

    found = asked(real, endpoint="shop", **keys)

    assert (found.status, said in found.summary) == (status, True), found.summary


def test_nothing_that_listens_fails_and_an_unknown_host_is_unknown(real: CheckContext) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        refused = asked(real, url=f"http://127.0.0.1:{held.getsockname()[1]}/health")
    unknown = asked(real, url="http://no-such-host.invalid/health")

    assert (refused.status, "nothing listens at" in refused.summary) == ("FAIL", True)
    assert (unknown.status, "no-such-host.invalid" in unknown.summary) == ("UNKNOWN", True)


def test_what_listens_and_speaks_no_http_is_unknown(real: CheckContext, served: Site) -> None:
    assert asked(real, url=served.url.replace("http:", "https:")).status == "UNKNOWN"


@pytest.mark.parametrize(("token", "status"), [(TOKEN, "PASS"), ("another-token-1", "FAIL"), (None, "UNKNOWN")])
def test_a_token_is_taken_from_the_environment(
    real: CheckContext, served: Site, monkeypatch: pytest.MonkeyPatch, token: str | None, status: str
) -> None:
    if token:
        monkeypatch.setenv("SHOP_TOKEN", token)

    found = asked(real, url=f"{served.url}/guarded", token={"env": "SHOP_TOKEN"})

    assert (found.status, str(token) in str(found)) == (status, False)


def test_an_answer_that_shows_a_secret_is_reported_without_it(real: CheckContext, served: Site) -> None:
    served.pages["/leak"] = (200, "application/json", b'{"dsn":"postgres://shop:canary-pass-3@db/shop"}')

    found = asked(real, url=f"{served.url}/leak", json={"dsn": "none"})

    assert (found.status, "canary-pass-3" in str(found)) == ("FAIL", False)


# --- metric


def measured(checked: CheckContext, metrics: Prometheus, query: str, **keys: Any) -> Result:
    with_target(checked, metrics=Metrics(url=metrics.url))
    spec = MetricKeys.model_validate({"kind": "metric", "title": "Within bounds", "query": query, **keys})
    return check(with_check(checked, spec), "own")


ERROR = {"status": "error", "errorType": "timeout", "error": "query timed out in expression evaluation"}
MATRIX = {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "1"]]}]}}
TEXT = {"status": "success", "data": {"resultType": "string", "result": [1, "x"]}}
HISTOGRAM = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "histogram": [1, {}]}]}}


@pytest.mark.parametrize(
    ("answer", "keys", "status", "said"),
    [
        ([Series("0.01")], {"at_most": 0.05}, "PASS", "0.01 in 1 series, and must be at most 0.05"),
        ([Series("0.05")], {"at_most": 0.05}, "PASS", "0.05"),
        ([Series("3", {"a": "1"}), Series("5", {"a": "2"})], {"at_least": 3, "at_most": 5}, "PASS", "3 to 5 in 2 series"),
        (0.25, {"at_most": 1}, "PASS", "0.25 in 1 series"),
        ([Series("0.06")], {"at_most": 0.05}, "FAIL", "1 of 1 series must be at most 0.05 and are not: 0.06"),
        ([Series("2")], {"at_least": 3}, "FAIL", "must be at least 3 and are not: 2"),
        ([Series("1", {"a": "1"}), Series("9", {"__name__": "q", "a": "2"})], {"at_most": 5}, "FAIL", '9 q{a="2"}'),
        ([Series("+Inf")], {"at_most": 5}, "FAIL", "inf"),
        ([Series("9", {"a": "1"}), Series("NaN", {"a": "2"})], {"at_most": 5}, "FAIL", "1 of 2 series"),
        (2.0, {"at_most": 1}, "FAIL", "must be at most 1 and are not: 2"),
        ([], {"at_most": 5}, "UNKNOWN", "no series has a sample of the last 300 s"),
        ([Series("NaN")], {"at_most": 5}, "UNKNOWN", "not a number (NaN, mostly 0 divided by 0)"),
        ([Series("1"), Series("NaN", {"a": "2"})], {"at_most": 5}, "UNKNOWN", 'divided by 0): {a="2"}'),
        ([Series("1", age=90)], {"at_most": 5, "within": 60}, "UNKNOWN", "no series has a sample of the last 60 s"),
        ([Series("1", age=90)], {"at_most": 5, "within": 120}, "PASS", "1 in 1 series"),
        ((200, MATRIX), {"at_most": 5}, "UNKNOWN", "gives a matrix"),
        ((200, HISTOGRAM), {"at_most": 5}, "UNKNOWN", "gives a native histogram"),
        ((200, TEXT), {"at_most": 5}, "UNKNOWN", "gives a string"),
        ((503, ERROR), {"at_most": 5}, "UNKNOWN", "answered 503: query timed out"),
        ((200, "<html>"), {"at_most": 5}, "UNKNOWN", "answered 200: <html>"),
        ((200, {"status": "success"}), {"at_most": 5}, "UNKNOWN", "cannot be read"),
        ((302, ""), {"at_most": 5}, "UNKNOWN", "answered 302"),
    ],
)  # fmt: skip
def test_each_series_must_keep_the_bounds(
    real: CheckContext, metrics: Prometheus, answer: Any, keys: dict[str, Any], status: str, said: str
) -> None:
    query = 'sum(rate(http_requests_total{status=~"5.."}[5m])) / 100'
    metrics.answers[query] = answer

    found = measured(real, metrics, query, **keys)

    assert (found.status, said in found.summary) == (status, True), found.summary
    assert metrics.asked[-1]["query"] == query


def test_a_part_of_an_answer_or_an_old_one_is_unknown(real: CheckContext, metrics: Prometheus) -> None:
    metrics.answers["up"] = [Series("1")]
    metrics.warnings = ["a store did not answer"]
    in_part = measured(real, metrics, "up", at_least=1)
    metrics.warnings, metrics.clock = [], -400
    old = measured(real, metrics, "up", at_least=1)

    assert (in_part.status, "a store did not answer" in in_part.summary) == ("UNKNOWN", True)
    assert (old.status, "is 400 s old" in old.summary) == ("UNKNOWN", True)


def test_a_metrics_server_that_is_gone_is_unknown(real: CheckContext, metrics: Prometheus) -> None:
    metrics.url = "http://127.0.0.1:1"

    assert measured(real, metrics, "up", at_least=1).status == "UNKNOWN"


@pytest.mark.parametrize(("token", "status"), [(TOKEN, "PASS"), ("another-token-1", "UNKNOWN")])
def test_the_token_of_a_metrics_server_is_sent(
    real: CheckContext, metrics: Prometheus, monkeypatch: pytest.MonkeyPatch, token: str, status: str
) -> None:
    monkeypatch.setenv("METRICS_TOKEN", token)
    metrics.token, metrics.answers["up"] = TOKEN, 1.0
    with_target(real, metrics=Metrics(url=metrics.url, token=SecretReference(env="METRICS_TOKEN")))
    spec = MetricKeys.model_validate({"kind": "metric", "title": "Up", "query": "up", "at_least": 1})

    found = check(with_check(real, spec), "own")

    assert (found.status, token in str(found)) == (status, False)


# --- command


def commanded(checked: CheckContext, code: str, **keys: Any) -> Result:
    command = NamedCommand(command=[sys.executable, "-c", code], **keys)
    with_target(checked, commands={"smoke": command})
    return check(with_check(checked, CommandKeys(kind="command", title="Smoke", command="smoke")), "own")


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("print('12 passed')", "PASS", "smoke: exit code 0 after"),
        ("print('12 passed\\n\\n')", "PASS", "s: 12 passed"),
        ("import sys; print('2 failed'); sys.exit(1)", "FAIL", "exit code 1 after"),
        ("import sys; sys.exit(2)", "UNKNOWN", "exit code 2 after"),
        ("import os; os.kill(os.getpid(), 9)", "UNKNOWN", "exit code -9 after"),
        ("import time; print('begun', flush=True); time.sleep(60)", "UNKNOWN", "did not end within 1 s"),
    ],
)
def test_a_command_says_by_its_exit_code_whether_all_is_well(real: CheckContext, code: str, status: str, said: str) -> None:
    found = commanded(real, code, timeout=1)

    assert (found.status, said in found.summary) == (status, True), found.summary
    kept = (real.context.folder.path / found.evidence["text"]).read_text()
    assert [word for word in ("passed", "failed", "begun") if word in code and word not in kept.split("\n", 1)[1]] == []


def test_what_a_command_prints_is_kept_without_secrets(real: CheckContext) -> None:
    found = commanded(real, "import sys; print('PGPASSWORD=canary-pass-4'); print('x', file=sys.stderr); sys.exit(1)")

    kept = (real.context.folder.path / found.evidence["text"]).read_text()
    assert ("canary-pass-4" in str(found) + kept.replace("print('PGPASSWORD", ""), "\nx\n" in kept) == (False, True)


def test_a_command_runs_in_its_folder(real: CheckContext, tmp_path: Path) -> None:
    assert f": {tmp_path}" in commanded(real, "import os; print(os.getcwd())", directory=str(tmp_path)).summary


# --- what can be known beforehand


def beforehand(checked: CheckContext, spec: CheckSpec) -> tuple[str, str]:
    with_check(checked, spec)
    look = checks.kind(spec.kind).beforehand
    assert look
    return look(checked.context, "own")


def test_a_token_or_a_program_that_is_absent_is_known_beforehand(real: CheckContext, tmp_path: Path) -> None:
    http = HttpKeys(kind="http", title="x", url="http://a.test", token=SecretReference(env="NO_SUCH_TOKEN"))
    with_target(
        real,
        commands={
            "gone": NamedCommand(command=["no-such-program"]),
            "away": NamedCommand(command=["true"], directory=str(tmp_path / "none")),
            "here": NamedCommand(command=["true"]),
        },
    )
    found = {
        name: beforehand(real, CommandKeys(kind="command", title="x", command=name)) for name in ("gone", "away", "here")
    }

    assert beforehand(real, http) == ("FAIL", "The secret NO_SUCH_TOKEN is not in the environment.")
    assert [status for status, _ in found.values()] == ["FAIL", "FAIL", "PASS"]
    assert "no-such-program cannot be run from here" in found["gone"][1]


def test_a_query_that_the_metrics_server_refuses_is_known_beforehand(real: CheckContext, metrics: Prometheus) -> None:
    with_target(real, metrics=Metrics(url=metrics.url))
    metrics.answers["up"] = []
    good, bad = (MetricKeys(kind="metric", title="x", query=query, at_most=1) for query in ("up", "sum(up"))

    assert beforehand(real, good) == ("PASS", "the query gives 0 series now")
    assert beforehand(real, bad) == ("FAIL", "the server refuses the query: 1:7: parse error: unclosed left parenthesis")
    metrics.token = "another"
    with pytest.raises(AdapterError, match="answered 401"):
        beforehand(real, good)


# --- bad keys


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"kind": "http"}, "it must have either an endpoint or a url"),
        ({"kind": "http", "endpoint": "shop", "url": "http://a.test"}, "it must have either an endpoint or a url"),
        ({"kind": "http", "url": "http://a.test/x", "path": "/y"}, "a url has its own path"),
        ({"kind": "http", "url": "http://u:p@a.test/x"}, "it has a user or a password"),
        ({"kind": "http", "url": "ftp://a.test"}, "url"),
        ({"kind": "http", "endpoint": "shop", "path": "health"}, "path"),
        ({"kind": "http", "endpoint": "shop", "status": 700}, "status"),
        ({"kind": "http", "endpoint": "shop", "json": {"a": [1]}}, "json"),
        ({"kind": "http", "endpoint": "shop", "json": {"items[].state": "up"}}, "it must name one place"),
        ({"kind": "http", "endpoint": "shop", "json": {"$.state": "up"}}, "it must be keys parted by dots"),
        ({"kind": "http", "endpoint": "shop", "token": "abc"}, "token"),
        ({"kind": "metric", "query": "up"}, "it must have at_most, at_least, or both"),
        ({"kind": "metric", "query": "up", "at_least": 3, "at_most": 2}, "no value is at_least that and at_most this"),
        ({"kind": "metric", "query": "", "at_most": 2}, "query"),
        ({"kind": "metric", "query": "up", "at_most": float("nan")}, "at_most"),
        ({"kind": "metric", "query": "up", "at_most": 2, "within": 0}, "within"),
        ({"kind": "command"}, "command: missing"),
        ({"kind": "command", "command": "smoke", "exit": 0}, "unknown key"),
        ({"kind": "sql", "sql": "SELECT 1"}, "it must have one of equals, no_rows, and at_least or at_most"),
        ({"kind": "sql", "sql": "SELECT 1", "equals": 1, "no_rows": True}, "it must have one of equals"),
        ({"kind": "sql", "sql": "SELECT 1", "no_rows": False}, "no_rows"),
        ({"kind": "sql", "sql": "SELECT 1", "at_least": 3, "at_most": 2}, "no number is at_least that"),
        ({"kind": "sql", "sql": "SELEC 1", "equals": 1}, "it cannot be read: syntax error at or near"),
        ({"kind": "sql", "sql": "SELECT 1; SELECT 2", "equals": 1}, "it is no single query"),
        ({"kind": "sql", "sql": "DELETE FROM a", "no_rows": True}, "it is no single query"),
        ({"kind": "sql", "sql": "WITH x AS (DELETE FROM a RETURNING 1) SELECT 1 FROM x", "equals": 1}, "it writes"),
        ({"kind": "sql", "sql": "SELECT 1 INTO b", "equals": 1}, "it writes or locks"),
        ({"kind": "sql", "sql": "SELECT a FROM b FOR UPDATE", "equals": 1}, "it writes or locks"),
        ({"kind": "sql", "sql": "SELECT pg_terminate_backend(1)", "equals": 1}, "it calls pg_terminate_backend"),
        ({"kind": "sql", "sql": "SELECT $1", "equals": 1}, "it has a parameter"),
    ],
)
def test_a_wrong_key_is_one_error_with_its_line(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    data = yaml.safe_load(WRITTEN_OUT.read_text())
    data["checks"]["own"] = {"title": "Own", **keys}
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False))

    with pytest.raises(ParametersError) as raised:
        load_plan(file)

    assert (", line " in str(raised.value), "checks.own" in str(raised.value), said in str(raised.value)) == (True,) * 3, (
        raised.value
    )
