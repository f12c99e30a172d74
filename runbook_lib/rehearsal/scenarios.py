"""What can be rehearsed: a fault, what the engineer chooses, and where the run must end up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """A fault to inject, the type chosen ("" for what triage recommends), the option, and what must end verified."""

    fault: str
    about: str
    ends_as: str
    chosen: str = ""
    option: str = "A"


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
    "remove-columns": Scenario(
        "all-media-missing", "The same, but the feature's columns go too. Full, with option B.", "full", option="B"
    ),
    "restore-from-backup": Scenario(
        "corrupt-data", "A job has spoiled the data. The backup is restored, with option C.", "restore", option="C"
    ),
}
