"""Results of checks, PASS, FAIL or UNKNOWN, never a truth value; and preconditions of steps.

A step lists its preconditions in `needs()`, each made by `self.need(suffix, title, when, look)`:
`When.BEFOREHAND` if the preview can look at it: a FAIL or UNKNOWN then refuses the approval, before any downtime;
`When.AT_THE_STEP` if an earlier step of the same run makes it true. Both are looked at again just before the step acts;
`When.ONLY_BEFOREHAND` if the step itself waits for it by then.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NoReturn

from runbook_lib.errors import AdapterError, PreconditionError, RunbookError, UnknownOutcome


class Status(StrEnum):
    """The three results of a check; only PASS is success."""

    PASS = "PASS"  # noqa: S105 - not a password
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Result:
    """The result of one check, in a sentence, with its evidence."""

    name: str
    title: str
    status: Status
    summary: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def findings(self) -> list[str]:
        """The findings one by one if the check lists them, else its summary."""
        return list(self.evidence.get("findings", [])) or [self.summary]

    def __bool__(self) -> NoReturn:
        raise TypeError("A result is not a truth value: compare its status, and treat UNKNOWN as what it is.")


def not_passed(results: Iterable[Result]) -> list[Result]:
    """Return the results that are anything but PASS."""
    return [result for result in results if result.status is not Status.PASS]


def verdict(results: Iterable[Result]) -> Status:
    """FAIL if any failed, else UNKNOWN if any is unknown or there are none, else PASS."""
    return worst(result.status for result in results)


def worst(statuses: Iterable[Status]) -> Status:
    """FAIL if any is, else UNKNOWN if any is or there are none, else PASS."""
    found = set(statuses)
    if Status.FAIL in found:
        return Status.FAIL
    return Status.PASS if found == {Status.PASS} else Status.UNKNOWN


Found = tuple[Status, str]  # the status of a look, and a sentence on it


class When(StrEnum):
    """When a precondition can be looked at for the first time."""

    BEFOREHAND = "beforehand"
    AT_THE_STEP = "at the step"
    ONLY_BEFOREHAND = "only beforehand"


@dataclass(frozen=True)
class Precondition:
    """A precondition, and a read-only look at it."""

    name: str  # its name in the journal and in a waiver
    title: str  # worded as if it holds
    when: When
    look: Callable[[], Found]
    waivable: bool = False  # whether an engineer may waive it, for a recorded reason

    def result(self, found: Found) -> Result:
        """Return what looking at it found, as a result. Pure."""
        return Result(self.name, self.title, *found)


LOOK_FAILED = AdapterError, PreconditionError, UnknownOutcome  # errors of a look without an answer


def why(error: RunbookError) -> Found:
    """Return what an error that ended a look says: FAIL where something does not hold, else UNKNOWN. Pure."""
    if isinstance(error, PreconditionError):
        return Status.FAIL, f"{error.what} {error.safe_next}".strip()
    return Status.UNKNOWN, f"could not be looked at: {error.what}"
