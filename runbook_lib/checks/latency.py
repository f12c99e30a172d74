"""The API answers as fast as the plan says."""

from statistics import quantiles

from runbook_lib.checks.round import Round
from runbook_lib.plan import LatencyCheck
from runbook_lib.results import Result, Status


def within_limit(around: Round, name: str) -> Result:
    """Whether the 95th percentile over the plan's number of requests keeps the plan's limit. Read-only."""
    spec = around.context.plan.checks[name]
    assert isinstance(spec, LatencyCheck)
    samples = around.samples
    answers = [around.ask(samples[number % len(samples)]) for number in range(spec.requests)]
    if failed := [answer.status for answer in answers if answer.status != 200]:
        return around.result(
            name, Status.UNKNOWN, f"{len(failed)} of {spec.requests} requests were not served ({failed[0]})"
        )
    milliseconds = sorted(answer.seconds * 1000 for answer in answers)
    cuts = quantiles(milliseconds, n=20, method="inclusive")
    return around.result(
        name,
        Status.PASS if cuts[18] <= spec.p95_ms else Status.FAIL,
        f"p50 {cuts[9]:.0f} ms, p95 {cuts[18]:.0f} ms over {spec.requests} requests; p95 may be {spec.p95_ms:.0f} ms",
        milliseconds=[round(value, 1) for value in milliseconds],
    )
