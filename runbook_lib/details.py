"""What else an option leaves open, as one parameter: `NAME=value, NAME=value`. Pure."""

from collections.abc import Iterable, Mapping

from runbook_lib.errors import ParametersError


def read(text: str) -> dict[str, str]:
    """The values that a parameter names.

    Raises:
        ParametersError: A part of it is not of the form NAME=value.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    pairs = [tuple(piece.strip() for piece in part.split("=", 1)) for part in parts]
    if wrong := [part for part, pair in zip(parts, pairs, strict=True) if len(pair) != 2 or not all(pair)]:
        raise ParametersError(
            f"{wrong[0]!r} is not of the form NAME=value.",
            state="Nothing was touched.",
            safe_next="Write STRATEGY=swap, for example; several are parted by commas.",
        )
    return {pair[0]: pair[1] for pair in pairs}


def require_known(wanted: Iterable[str], known: Mapping[str, object]) -> None:
    """See that each name is one that can be chosen here.

    Raises:
        ParametersError: One is not.
    """
    if unknown := [name for name in wanted if name not in known]:
        raise ParametersError(
            f"There is nothing to choose by the name {unknown[0]} here.",
            state="Nothing was touched.",
            safe_next=f"What can be chosen: {', '.join(known) or 'nothing'}.",
        )
