"""What an approval covers: the digest of previews, and what has drifted since. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from runbook_lib.steps.base import Preview

Approved = Mapping[str, Mapping[str, Any]]  # step -> "facts", "volumes" and "keys"


def bound(previews: Iterable[Preview]) -> dict[str, dict[str, Any]]:
    """The part of previews that an approval binds: each step's facts, volumes and list of rows."""
    plain = {p.step: {"facts": dict(p.facts), "volumes": dict(p.volumes), "keys": p.keys} for p in previews}
    copied: dict[str, dict[str, Any]] = json.loads(json.dumps(plain))
    return copied


def digest(approved: Approved) -> str:
    """A short name for exactly these facts and volumes: 16 hex digits of a SHA-256."""
    return hashlib.sha256(json.dumps(approved, sort_keys=True).encode()).hexdigest()[:16]


def drift(approved: Mapping[str, Mapping[str, Any]], preview: Preview, tolerance: float) -> list[str]:
    """What differs between an approved step and its preview now, a line each.

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
