"""The history of migrations of a plan, with some of its keys changed."""

from typing import Any

from runbook_lib.config.plan import Migration, Plan
from runbook_lib.postgres.migration_history import Applied, History


def migration(tool: str = "plain", *versions: str, **keys: Any) -> Migration:
    """The migrations of a tool, in the repository backend."""
    return Migration.model_validate({"tool": tool, "repository": "backend", "versions": list(versions), **keys})


def recorded(plan: Plan, **keys: Any) -> History:
    """The plan's own, or that of another tool where one is named."""
    found = plan.migration
    assert found
    if keys:
        found = Migration.model_validate({"repository": "backend", "versions": found.versions, **keys})
    return History(Applied.by_version(found, found.schema_ or plan.history_schema))
