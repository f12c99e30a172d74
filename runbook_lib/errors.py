"""The errors, each with fact, place, state and remedy.

RunbookError
├── ParametersError      a plan, target or parameter is wrong; nothing was touched
├── Declined             a person or a missing approval said no; nothing was touched
├── PreconditionError    something that must hold does not, or could not be checked
├── StepFailed           a step began and did not finish as it should
├── UnknownOutcome       what a step did could not be established
├── AdapterError         a tool, server or service did not answer as it must
└── JournalError         the record of a run is broken
"""

LABELLED = ("  Where:", "  State:", "  Safe next:")
LONGEST = 1000  # characters of a cause


class RunbookError(Exception):
    """An error that says what happened, where, in what state the system is, and what is safe to do next."""

    exit_code = 3

    def __init__(self, what: str, *, where: str = "", state: str = "", safe_next: str = "", offers: str = "") -> None:
        """`offers`: a choice, as NAME=value, with which the run may continue."""
        self.what = what
        self.offers = offers
        self.where = where
        self.state = state
        self.safe_next = safe_next
        super().__init__(what)

    def __str__(self) -> str:
        labelled = zip(LABELLED, (self.where, self.state, self.safe_next), strict=True)
        return "\n".join([self.what, *(f"{label} {text}" for label, text in labelled if text)])

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def cause(text: str) -> str:
    """What an error's text says has happened, with its cause, in one line: all before where, state and remedy. Pure."""
    lines = text.splitlines()
    end = next((n for n, line in enumerate(lines) if line.startswith(LABELLED)), len(lines))
    said = " ".join(line.strip() for line in lines[:end] if line.strip())
    return said if len(said) <= LONGEST else f"{said[: LONGEST // 2]} … {said[-LONGEST // 2 :]}"


class ParametersError(RunbookError):
    """A plan, target or parameter is wrong; nothing was touched."""

    exit_code = 2


class Declined(RunbookError):
    """A confirmation was refused or is missing; the action was not begun."""

    exit_code = 1


class PreconditionError(RunbookError):
    """Something that must hold before a step does not hold."""


class StepFailed(RunbookError):
    """A step began and did not finish as it should."""


class UnknownOutcome(RunbookError):
    """What happened, or what holds, could not be established."""

    exit_code = 4


class AdapterError(RunbookError):
    """A tool, a server or a service did not answer as it must."""


class JournalError(RunbookError):
    """The record of a run is broken or cannot be written."""
