"""Plans and targets of earlier versions: what their keys and kinds are called today."""

from __future__ import annotations

from typing import Any

STEP_KINDS = {"restore_aside": "restore_staging"}
STEP_KEYS = {"uncounted": "on_uncountable"}
MIGRATION_KEYS = {"history_table": "table", "history_column": "column"}


def of_earlier_plan(data: Any) -> Any:
    """Return the keys of a plan as they are called today. Pure."""
    if not isinstance(data, dict):
        return data
    steps = data.get("steps")
    if isinstance(steps, dict):
        data = {**data, "steps": {name: _step(step) for name, step in steps.items()}}
    return _migration(data)


def renamed(data: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The same values under the names of today; where both names are there, the earlier one stays, and is refused. Pure."""
    return {key if names.get(key, key) in data else names.get(key, key): value for key, value in data.items()}


def _step(step: Any) -> Any:
    if not isinstance(step, dict):
        return step
    kind = step.get("kind")
    known = {"kind": STEP_KINDS[kind]} if isinstance(kind, str) and kind in STEP_KINDS else {}
    return {**renamed(step, STEP_KEYS), **known}


def _migration(data: dict[str, Any]) -> dict[str, Any]:
    """Move a migration under `database` to the top level."""
    database = data.get("database")
    if not isinstance(database, dict) or not isinstance(database.get("migration"), dict) or "migration" in data:
        return data
    old: dict[str, Any] = database["migration"]
    found = {"tool": "plain", "versions": [old.get("version")]}
    if old.get("previous") is not None:
        found["rows"] = "one"
    found |= renamed({key: value for key, value in old.items() if key != "version"}, MIGRATION_KEYS)
    return {**data, "migration": found, "database": {key: value for key, value in database.items() if key != "migration"}}
