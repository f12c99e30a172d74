"""The checks of a plan, each kind with its own keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runbook_lib.parameters import Model
from runbook_lib.plan.values import Name


class _Check(Model):
    title: str


class SimpleCheck(_Check):
    """A check that needs nothing but the plan's own facts."""

    kind: Literal[
        "services",
        "schema",
        "api_present",
        "api_absent",
        "page_media",
        "page_served",
        "page_console",
        "page_thread",
        "page_render",
        "page_returning",
        "proof",
        "integrity",
        "sessions",
    ]


class LogsCheck(_Check):
    """The logs of services hold no errors."""

    kind: Literal["logs"]
    services: list[Name]


class LatencyCheck(_Check):
    """The API answers as fast as the plan says."""

    kind: Literal["latency"]
    requests: Annotated[int, Field(ge=10)]
    p95_ms: Annotated[float, Field(gt=0)]


class FreshCheck(_Check):
    """A service runs a build of what is checked out, without the feature."""

    kind: Literal["fresh"]
    service: Name


class SlowQueriesCheck(_Check):
    """No statement of the application takes longer, on average, than the plan says."""

    kind: Literal["slow_queries"]
    mean_ms: Annotated[float, Field(gt=0)]
    unmeasured: Literal["unknown", "leave out"] = "unknown"  # on a checklist, where the server measures no statements


class ReferenceCheck(_Check):
    """The media that were visible before are visible now, measured against a named reference."""

    kind: Literal["reference"]
    reference: Literal["backup", "api"]  # "api": the API from before the feature, which the target names
    where: Literal["shown", "source"]  # in what the deployed page reads, or in what older code does, whatever is deployed


CheckSpec = Annotated[
    SimpleCheck | LogsCheck | LatencyCheck | SlowQueriesCheck | ReferenceCheck | FreshCheck, Field(discriminator="kind")
]
