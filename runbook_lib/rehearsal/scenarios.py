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
    override: str = ""  # why something else is chosen than triage recommends
    symptom: str = ""  # the row of the decision matrix that triage must name, where the scenario is there to show it


SCENARIOS = {
    "frontend-errors": Scenario(
        "frontend-errors",
        "The new frontend shows no picture; the API is sound. Quick is enough.",
        "frontend",
        symptom="Frontend errors",
    ),
    "some-media-missing": Scenario(
        "some-media-missing",
        "Some pictures that were visible before are not; mediaUrl still has them all. Investigated first, then the data.",
        "full",
        symptom="Some media missing",
    ),
    "all-media-missing": Scenario(
        "all-media-missing",
        "No media reach any client, old or new. Full, with option A.",
        "full",
        symptom="All media missing",
    ),
    "slow": Scenario(
        "slow", "Threads take too long. Monitored first, then the database.", "full", symptom="Performance issues"
    ),
    "corrupt-data": Scenario(
        "wrong-pictures",
        "The backfill wrote into messages that it had no business with. The backup is restored.",
        "restore",
        option="C",
        symptom="Data corruption",
    ),
    "backend-errors": Scenario(
        "backend-errors",
        "The backend's log is full of database errors. Backend and database.",
        "full",
        symptom="Backend errors",
    ),
    "quick-is-not-enough": Scenario(
        "media-url-dropped",
        "Quick is tried first; the API turns out to serve older clients nothing.",
        "full",
        "frontend",
        override="Quick costs no outage, and shows soon whether it is enough.",
    ),
    "remove-columns": Scenario(
        "all-media-missing", "The same, but the feature's columns go too. Full, with option B.", "full", option="B"
    ),
    "restore-from-backup": Scenario(
        "corrupt-data", "A job has spoiled the data. The backup is restored, with option C.", "restore", option="C"
    ),
}
