"""What can be wrong with the release that a rehearsal takes back."""

from dataclasses import dataclass

from runbook_lib.rehearsal.errors import StackError


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
