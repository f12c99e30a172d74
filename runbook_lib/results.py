"""What a check found: PASS, FAIL or UNKNOWN, never a truth value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NoReturn


class Status(StrEnum):
    """The three things a check can say; only PASS is success."""

    PASS = "PASS"  # noqa: S105 - not a password
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Result:
    """What one check found, in a sentence, with the facts it rests on."""

    name: str
    title: str
    status: Status
    summary: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> NoReturn:
        raise TypeError("A result is not a truth value: compare its status, and treat UNKNOWN as what it is.")


def not_passed(results: Iterable[Result]) -> list[Result]:
    """The results that are anything but PASS."""
    return [result for result in results if result.status is not Status.PASS]


def verdict(results: Iterable[Result]) -> Status:
    """FAIL if any failed, else UNKNOWN if any is unknown or there are none, else PASS."""
    statuses = {result.status for result in results}
    if Status.FAIL in statuses:
        return Status.FAIL
    return Status.PASS if statuses == {Status.PASS} else Status.UNKNOWN
