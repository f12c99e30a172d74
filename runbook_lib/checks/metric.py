"""A metric from a server with Prometheus' HTTP API keeps the plan's bounds."""

import math
import time
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

from pydantic import AfterValidator, Field, model_validator

from runbook_lib.checks import CheckContext, check
from runbook_lib.config.loading import like
from runbook_lib.config.plan import CheckSpec
from runbook_lib.config.plan.steps import Number
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError
from runbook_lib.redaction import redact
from runbook_lib.results import Found, Result, Status
from runbook_lib.system.http import Answer

SECONDS = 15  # for a query
SHOWN = 5  # series that a result names
BAD_QUERY = (400, 422)
_NAN = "NaN, mostly 0 divided by 0"


class MetricKeys(CheckSpec):
    """Whether each series of a metric keeps its bounds; no series at all is unknown."""

    kind: Literal["metric"]
    query: Annotated[str, AfterValidator(like(r"\S", "a query"))]
    """A PromQL query that gives a number or a vector, sent to the target's `metrics`."""
    at_most: Number | None = None
    """The highest allowed value."""
    at_least: Number | None = None
    """The lowest allowed value."""
    within: Annotated[int, Field(gt=0)] = 300
    """The maximum age of a series' last sample, in seconds; an older one does not count."""

    area = "Services"
    requires = ()

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_most is None and self.at_least is None:
            raise ValueError("it must have at_most, at_least, or both")
        if self.at_most is not None and self.at_least is not None and self.at_least > self.at_most:
            raise ValueError("no value is at_least that and at_most this")
        return self

    def of_target(self) -> tuple[str, ...]:
        """Return the queried server. Pure."""
        return ("metrics",)


def _ask(context: Context, spec: MetricKeys) -> Answer:
    """Send the query to the server now.

    Raises:
        AdapterError: The server does not answer.
    """
    metrics = context.target.metrics
    assert metrics is not None
    token = context.adapters.secret(metrics.token.env, "metrics") if metrics.token else None
    asked = urlencode({"query": spec.query, "timeout": f"{SECONDS}s", "lookback_delta": f"{spec.within}s"})
    return context.adapters.http.get(f"{metrics.url.rstrip('/')}/api/v1/query?{asked}", token=token, timeout=SECONDS)


def _beforehand(context: Context, name: str) -> Found:
    """Check that the server answers and accepts the query, whatever the value. Read-only."""
    spec = context.plan.checks[name]
    assert isinstance(spec, MetricKeys)
    answer = _ask(context, spec)
    if answer.status in BAD_QUERY:
        return Status.FAIL, f"the server refuses the query: {_error(answer)}"
    series = _series(answer, spec)
    return Status.PASS, f"the query gives {len(series)} series now"


@check(MetricKeys, beforehand=_beforehand)
def within_bounds(checked: CheckContext, name: str) -> Result:
    """Check that each series of the query keeps the bounds; no, an old or a non-numeric one is UNKNOWN. Read-only."""
    spec = checked.context.plan.checks[name]
    assert isinstance(spec, MetricKeys)
    series = _series(_ask(checked.context, spec), spec)
    if not series:
        return checked.result(
            name,
            Status.UNKNOWN,
            f"no series has a sample of the last {spec.within} s (`within`); check that the metric exists: {spec.query}",
        )
    bounds = " and ".join(
        f"{word} {bound:g}" for word, bound in (("at most", spec.at_most), ("at least", spec.at_least)) if bound is not None
    )
    evidence = {"query": spec.query, "values": {label: f"{value:g}" for label, value in list(series.items())[:SHOWN]}}
    if over := [label for label, value in series.items() if not math.isnan(value) and not _keeps(value, spec)]:
        shown = ", ".join(f"{series[label]:g} {label}".strip() for label in over[:SHOWN])
        summary = f"{len(over)} of {len(series)} series must be {bounds} and are not: {shown}"
        return checked.result(name, Status.FAIL, summary, **evidence)
    if undefined := [label for label, value in series.items() if math.isnan(value)]:
        summary = f"{len(undefined)} of {len(series)} series are not a number ({_NAN}): {', '.join(undefined[:SHOWN])}"
        return checked.result(name, Status.UNKNOWN, summary, **evidence)
    low, high = min(series.values()), max(series.values())
    shown = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return checked.result(name, Status.PASS, f"{shown} in {len(series)} series, and must be {bounds}", **evidence)


def _keeps(value: float, spec: MetricKeys) -> bool:
    return (spec.at_most is None or value <= spec.at_most) and (spec.at_least is None or value >= spec.at_least)


def _series(answer: Answer, spec: MetricKeys) -> dict[str, float]:
    """Return the values of an answer by label; a scalar has an empty label.

    Raises:
        AdapterError: The answer is incomplete, or out of date.
    """
    body = answer.json
    if answer.status != 200 or not isinstance(body, dict) or body.get("status") != "success":
        raise AdapterError(f"The metrics server answered {answer.status}: {_error(answer)}.")
    if body.get("isPartial"):  # of VictoriaMetrics
        raise AdapterError("The metrics server's answer lacks data from some of its nodes.")
    if warnings := body.get("warnings"):
        raise AdapterError(f"The metrics server's answer may be incomplete: {redact('; '.join(map(str, warnings)))}.")
    try:
        found = _values(body["data"])
    except (KeyError, TypeError, ValueError):
        raise AdapterError("The metrics server's answer cannot be read.") from None
    if isinstance(found, str):
        raise AdapterError(f"The query gives a {found}, but must give a number or a vector: {spec.query}")
    if old := [at for at, _ in found.values() if abs(time.time() - at) > spec.within]:
        raise AdapterError(f"The metrics server's answer is {time.time() - old[0]:.0f} s old, by this machine's clock.")
    return {label: value for label, (_, value) in found.items()}


def _values(data: dict[str, Any]) -> dict[str, tuple[float, float]] | str:
    """Return time and value of each series, or the answer's other type."""
    kind, result = data["resultType"], data["result"]
    if kind == "scalar":
        return {"": (float(result[0]), float(result[1]))}
    if kind != "vector":
        return str(kind)
    if any("histogram" in each for each in result):
        return "native histogram"
    found = {_label(each["metric"]): (float(each["value"][0]), float(each["value"][1])) for each in result}
    if len(found) != len(result):
        raise ValueError("two series have the same labels")
    return found


def _label(labels: dict[str, str]) -> str:
    name = labels.get("__name__", "")
    inner = ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if key != "__name__")
    return redact(f"{name}{{{inner}}}" if inner else name)


def _error(answer: Answer) -> str:
    body = answer.json
    said = body.get("error") if isinstance(body, dict) else None
    return redact(str(said or answer.text.strip()[:200] or "nothing")).rstrip(".")
