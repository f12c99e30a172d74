"""The plan that a person writes for a migration: its feature, tool, draft, and what is left to decide. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook_lib.config.plan.migration import migration_tools
from runbook_lib.postgres.changes.draft import HOLDING, Changed

TOOL, REPOSITORY = "plain", "app"


def planned(
    migrations: Sequence[Path], changes: Sequence[Changed], refused: Sequence[str], plan: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the keys of a plan for some migrations, null where a person has to fill something in. Pure.

    Args:
        migrations: Their scripts, in order.
        changes: What they changed.
        refused: What cannot be taken back without a person's word.
        plan: The keys of the plan that there is, None where there is none yet.
    """
    keys = dict(plan or _first(migrations))
    decided = {**keys.pop("decide", {})}
    decide = {**{thing: None for name in refused for thing in named(name, changes)}, **decided}
    return {**keys, "decide": decide} if decide else keys


def named(refused: str, changes: Sequence[Changed]) -> list[str]:
    """Return the tables and columns that a plan decides by, of what cannot be taken back. Pure."""
    held = [each.object for each in changes if each.kind in HOLDING]
    return [thing for thing in held if thing == refused or thing.endswith(f".{refused}")]


def _first(migrations: Sequence[Path]) -> dict[str, Any]:
    """Return a plan that has been given nothing yet but its migrations."""
    feature = migrations[0].stem
    return {
        "feature": feature,
        "title": feature,
        "extends": "standard",
        "repositories": {REPOSITORY: {}},
        "services": [REPOSITORY],
        "migration": {"tool": TOOL, "repository": REPOSITORY, "versions": [_version(each.name) for each in migrations]},
        "draft": {"changes": f"{feature}.changes.yaml", "sha256": None},
    }


def _version(name: str) -> str:
    """Return the version that a file's name shows."""
    return next(match["version"] for pattern in migration_tools()[TOOL].files if (match := re.match(pattern, name)))
