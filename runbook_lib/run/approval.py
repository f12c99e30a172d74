"""Approvals: the digest of previews, and drift since. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runbook_lib.errors import ParametersError, PreconditionError, RunbookError, UnknownOutcome
from runbook_lib.redaction import redact_values
from runbook_lib.results import Result, Status, verdict
from runbook_lib.steps import Preview

Approved = Mapping[str, Mapping[str, Any]]  # step -> "facts", "volumes" and "keys"


def bound(previews: Iterable[Preview]) -> dict[str, dict[str, Any]]:
    """Return what an approval binds of the previews: each step's facts, volumes and list of rows."""
    plain = {p.step: {"facts": dict(p.facts), "volumes": dict(p.volumes), "keys": p.keys} for p in previews}
    copied: dict[str, dict[str, Any]] = redact_values(json.loads(json.dumps(plain)))
    return copied


def digest(approved: Approved) -> str:
    """Return the digest of exactly these facts and volumes: 16 hex digits of a SHA-256."""
    return hashlib.sha256(json.dumps(approved, sort_keys=True).encode()).hexdigest()[:16]


def drift(approved: Mapping[str, Mapping[str, Any]], preview: Preview, tolerance: float) -> list[str]:
    """Return the differences between an approved step and its current preview, a line each.

    Args:
        approved: The step's approved "facts" and "volumes".
        preview: The step as it would be applied now.
        tolerance: The share by which a volume may differ, 0 to 1.
    """
    now = bound([preview])[preview.step]
    lines = [
        f"{name} was {approved['facts'].get(name)!r}, is {now['facts'].get(name)!r}"
        for name in {**approved["facts"], **now["facts"]}
        if approved["facts"].get(name) != now["facts"].get(name)
    ]
    for name, value in now["volumes"].items():
        before = approved["volumes"].get(name, 0)
        if abs(value - before) > tolerance * max(before, 1):
            lines.append(f"{name} was {before}, is {value}: more than {tolerance:.1%} apart")
    return lines


def refusal(digest: str, bad: Sequence[Result], where: str) -> RunbookError:
    """Make the error of a preview that cannot be approved, with each reason once. Pure."""
    reasons: dict[str, list[str]] = {}
    for result in bad:
        reasons.setdefault(f"{result.status}, {result.summary}", []).append(f"{result.title} ({result.name})")
    may_waive = all(result.evidence.get("waivable", "step" not in result.evidence) for result in bad)
    waive = f" Or continue without, for a reason: --waive '{bad[0].name}: REASON'." if may_waive else ""
    return (PreconditionError if verdict(bad) is Status.FAIL else UnknownOutcome)(
        f"Preview {digest} cannot be approved: "
        + "; ".join(f"{', '.join(titles)}: {why}" for why, titles in reasons.items()),
        where=where,
        state="Nothing was changed.",
        safe_next=f"Fix the cause; then preview again.{waive}",
    )


def read(text: str) -> dict[str, str]:
    """Parse the NAME=value parts of a parameter.

    Raises:
        ParametersError: A part is not of the form NAME=value.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    pairs = [tuple(piece.strip() for piece in part.split("=", 1)) for part in parts]
    if wrong := [part for part, pair in zip(parts, pairs, strict=True) if len(pair) != 2 or not all(pair)]:
        raise ParametersError(
            f"{wrong[0]!r} is not of the form NAME=value.",
            state="Nothing was touched.",
            safe_next="Write STRATEGY=swap, for example; separate several with commas.",
        )
    return {pair[0]: pair[1] for pair in pairs}


def require_known(wanted: Iterable[str], known: Mapping[str, object], what: str = "a choice here") -> None:
    """Check that each name is known.

    Raises:
        ParametersError: A name is unknown.
    """
    if unknown := [name for name in wanted if name not in known]:
        raise ParametersError(
            f"{unknown[0]} is not {what}.",
            state="Nothing was touched.",
            safe_next=f"Possible choices: {', '.join(known) or 'none'}.",
        )


FEWEST = 3  # words


def require_reason(reason: str, of: str, state: str, who: str = "Write") -> None:
    """Check that a reason has at least three words. Pure.

    Args:
        reason: The reason.
        of: Its name, at the start of the error.
        state: The error's state: what was not done.
        who: The start of the error's remedy.

    Raises:
        ParametersError: The reason has fewer than three words.
    """
    if len(reason.split()) < FEWEST:
        raise ParametersError(
            f"{of} is too short: {reason!r}.",
            state=state,
            safe_next=f"{who} a sentence that a reviewer will understand months from now.",
        )


def named_reason(text: str, known: Sequence[str]) -> tuple[str, str]:
    """Split "NAME: REASON"; of the known names, which may contain a colon, the longest match counts. Pure."""
    fitting = [name for name in known if text.strip().startswith(f"{name}:")]
    name = max(fitting, key=len, default=text.partition(":")[0].strip())
    return name, text.strip()[len(name) + 1 :].strip()
