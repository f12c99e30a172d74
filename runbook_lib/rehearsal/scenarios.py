"""What can be rehearsed: a fault, what the engineer chooses, and where the run must end up."""

from dataclasses import dataclass

from runbook_lib.rehearsal.workspace import StackError


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


@dataclass(frozen=True)
class Fault:
    """A fault, in one sentence: the patches that put it into the feature's commits, and the SQL that damages the data."""

    name: str
    description: str
    backend: str = ""
    frontend: str = ""
    data: str = ""


FAULTS: tuple[Fault, ...] = (
    Fault("none", "The release works."),
    Fault(
        "frontend-errors",
        'The frontend reads a key that the API does not send, so every picture shows "Content unavailable".',
        frontend="frontend-wrong-key",
    ),
    Fault(
        "all-media-missing",
        "The API sends neither mediaUrl nor any attachment, so every picture is missing for every client.",
        backend="backend-nothing-served",
    ),
    Fault(
        "some-media-missing",
        'The backfill left out some of the pictures, so the new frontend shows "Content unavailable" in their place.',
        data="some-media-missing",
    ),
    Fault(
        "slow",
        "With each thread the backend runs a statement that takes 0.3 s, longer than the plan allows.",
        backend="backend-slow-statement",
    ),
    Fault(
        "wrong-pictures",
        "The backfill put pictures of other messages into messages that never had one.",
        data="wrong-pictures",
    ),
    Fault(
        "backend-errors",
        "With each thread the backend writes to a column that no migration makes; it serves the thread and logs the error.",
        backend="backend-column-not-there",
    ),
    Fault(
        "media-url-dropped",
        "The frontend looks as in frontend-errors, and the API no longer sends the mediaUrl that the old one needs.",
        backend="backend-media-url-dropped",
        frontend="frontend-wrong-key",
    ),
    Fault(
        "corrupt-data",
        "A job has written attachments that are no lists of objects, over what users put there.",
        data="corrupt-data",
    ),
)


def fault_named(name: str) -> Fault:
    """Return a fault by its name. Read-only. Raises StackError when there is none of that name."""
    for fault in FAULTS:
        if fault.name == name:
            return fault
    raise StackError(
        f"there is no fault named {name!r}",
        where="fault",
        state="nothing was started",
        safe_next=f"choose one of {', '.join(fault.name for fault in FAULTS)}",
    )
