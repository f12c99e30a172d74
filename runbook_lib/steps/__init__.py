"""The kinds of step a plan is made of."""

from runbook_lib.context import Context
from runbook_lib.steps.backup import Backup
from runbook_lib.steps.base import Step
from runbook_lib.steps.build import Build
from runbook_lib.steps.clear_backfill import ClearBackfill
from runbook_lib.steps.code import Revert
from runbook_lib.steps.end_sessions import EndSessions
from runbook_lib.steps.fence import KeepOut, LetIn
from runbook_lib.steps.freeze import FreezeAll, ReleaseAll
from runbook_lib.steps.purge_cache import PurgeCache
from runbook_lib.steps.push import Push
from runbook_lib.steps.rebuild import Rebuild
from runbook_lib.steps.remove_columns import RemoveColumns
from runbook_lib.steps.restore_aside import RestoreAside
from runbook_lib.steps.restore_part import RestorePart
from runbook_lib.steps.services import Restart, Start, Stop
from runbook_lib.steps.swap_database import SwapDatabase

KINDS: dict[str, type[Step]] = {
    "stop": Stop,
    "start": Start,
    "restart": Restart,
    "freeze": FreezeAll,
    "release": ReleaseAll,
    "purge_cache": PurgeCache,
    "backup": Backup,
    "fence": KeepOut,
    "let_in": LetIn,
    "clear_backfill": ClearBackfill,
    "remove_columns": RemoveColumns,
    "restore_aside": RestoreAside,
    "swap_database": SwapDatabase,
    "restore_part": RestorePart,
    "revert": Revert,
    "build": Build,
    "rebuild": Rebuild,
    "end_sessions": EndSessions,
    "push": Push,
}


def steps_of(context: Context) -> dict[str, Step]:
    """The steps of the run's rollback type, in order."""
    return {name: KINDS[spec.kind](name, context) for name, spec in context.specs.items()}


def step_named(context: Context, name: str) -> Step:
    """A step of the plan, whatever the run's option is by now."""
    return KINDS[context.plan.steps[name].kind](name, context)
