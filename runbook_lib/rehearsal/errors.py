"""What goes wrong while a rehearsal stack is brought up or used."""

from runbook_lib.errors import RunbookError


class StackError(RunbookError):
    """The rehearsal stack could not be brought up, or one of its parts did not answer."""
