"""What a reason that stays on record must be."""

from runbook_lib.errors import ParametersError

FEWEST = 3  # words


def require_reason(reason: str, of: str, state: str, who: str = "Write") -> None:
    """See that a reason says something. Pure.

    Args:
        reason: What was given.
        of: What it is called, as the error begins.
        state: What was not done without it.
        who: How the way on begins.

    Raises:
        ParametersError: It has fewer than three words.
    """
    if len(reason.split()) < FEWEST:
        raise ParametersError(
            f"{of} says too little: {reason!r}.",
            state=state,
            safe_next=f"{who} a sentence that a reviewer will understand months from now.",
        )
