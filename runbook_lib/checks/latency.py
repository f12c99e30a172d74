"""The API answers as fast as the plan says."""

from statistics import quantiles

from runbook_lib import plots
from runbook_lib.adapters.http import Answer
from runbook_lib.checks.round import Round
from runbook_lib.plan import LatencyCheck
from runbook_lib.results import Result, Status

SHARE = 0.05  # of the requests that may be slower than the limit
FEWEST = 10  # requests, after which no more are made once too many were slow


def within_limit(around: Round, name: str) -> Result:
    """Whether the 95th percentile over the plan's number of requests keeps the plan's limit; plotted. Read-only.

    No more requests are made once so many were slow that it cannot be kept.
    """
    spec = around.context.plan.checks[name]
    assert isinstance(spec, LatencyCheck)
    samples, slow = around.samples, 0
    answers: list[Answer] = []
    while len(answers) < spec.requests and (len(answers) < FEWEST or slow <= spec.requests * SHARE):
        answers.append(around.ask(samples[len(answers) % len(samples)]))
        slow += answers[-1].seconds * 1000 > spec.p95_ms
    if failed := [answer.status for answer in answers if answer.status != 200]:
        return around.result(name, Status.UNKNOWN, f"{len(failed)} of {len(answers)} requests were not served ({failed[0]})")
    milliseconds = [answer.seconds * 1000 for answer in answers]
    cuts = quantiles(milliseconds, n=20, method="inclusive")
    p50, p95 = round(cuts[9], 1), round(cuts[18], 1)
    early = "" if len(answers) == spec.requests else f", which ended the planned {spec.requests} early"
    plot = around.keep_plot(name, plots.line(milliseconds, spec.p95_ms, "ms", (1, len(milliseconds))))
    return around.result(
        name,
        Status.PASS if cuts[18] <= spec.p95_ms else Status.FAIL,
        f"p50 {p50:.0f} ms, p95 {p95:.0f} ms over {len(answers)} requests{early}; p95 may be {spec.p95_ms:.0f} ms",
        milliseconds=[round(value, 1) for value in milliseconds],
        p50_ms=p50,
        p95_ms=p95,
        limit_ms=spec.p95_ms,
        plot=plot,
    )
