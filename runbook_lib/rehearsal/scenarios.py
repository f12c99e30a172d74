"""What can be rehearsed: a fault, what the engineer chooses, and where the run must end up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """A fault to inject, the type chosen ("" for what triage recommends), and the type that must end verified."""

    fault: str
    about: str
    ends_as: str
    chosen: str = ""


SCENARIOS = {
    "frontend-errors": Scenario(
        "frontend-errors", "The new frontend shows no picture; the API is sound. Quick is enough.", "frontend"
    ),
    "all-media-missing": Scenario(
        "all-media-missing", "No media reach any client, old or new. Full, with option A.", "full"
    ),
    "quick-is-not-enough": Scenario(
        "media-url-dropped", "Quick is tried first; the API turns out to serve older clients nothing.", "full", "frontend"
    ),
}
