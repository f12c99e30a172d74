"""The kinds of step a plan is made of."""

from pkgutil import resolve_name

from runbook_lib.context import Context
from runbook_lib.steps.base import Step

KINDS = {
    "stop": "services:Stop",
    "start": "services:Start",
    "restart": "services:Restart",
    "freeze": "freeze:FreezeAll",
    "release": "freeze:ReleaseAll",
    "purge_cache": "purge_cache:PurgeCache",
    "backup": "backup:Backup",
    "fence": "fence:KeepOut",
    "let_in": "fence:LetIn",
    "clear_backfill": "clear_backfill:ClearBackfill",
    "remove_columns": "remove_columns:RemoveColumns",
    "restore_aside": "restore_aside:RestoreAside",
    "swap_database": "swap_database:SwapDatabase",
    "restore_part": "restore_part:RestorePart",
    "revert": "code:Revert",
    "build": "build:Build",
    "rebuild": "rebuild:Rebuild",
    "end_sessions": "end_sessions:EndSessions",
    "push": "push:Push",
}


def kind(name: str) -> type[Step]:
    """The class of a kind of step, imported when first asked for: what a rollback does not do costs it no start-up."""
    found: type[Step] = resolve_name(f"{__name__}.{KINDS[name]}")
    return found


def steps_of(context: Context) -> dict[str, Step]:
    """The steps of the run's rollback type, in order."""
    return {name: kind(spec.kind)(name, context) for name, spec in context.specs.items()}


def step_named(context: Context, name: str) -> Step:
    """A step of the plan, whatever the run's option is by now."""
    return kind(context.plan.steps[name].kind)(name, context)
