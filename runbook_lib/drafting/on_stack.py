"""Draft a plan on a stack that a file describes, for a release that no target runs yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from runbook_lib.documents import load_target
from runbook_lib.drafting import whole
from runbook_lib.drafting.whole import Drafted
from runbook_lib.rehearsal.stack import brought_up
from runbook_lib.rehearsal.stack_file import named_or_read
from runbook_lib.rehearsal.workspace import settled_in


def draft(stack: str, feature: str, file: Path, *, folder: Path, report: Callable[[str], None]) -> Drafted:
    """Start a stack with its release, write a plan for a feature from what is found there, and stop the stack.

    Args:
        stack: The stack's file, or its name.
        feature: The id that its commits name.
        file: Where the plan is written; it must not exist.
        folder: Where the draft of the migrations is written: the plan's folder, so that a rehearsal finds it.
        report: Receives progress messages.

    Raises:
        ParametersError: As for `whole.draft`, or the stack's file does not fit.
        PreconditionError: A program of the stack is missing.
        StackError: The stack does not start.
    """
    whole.require_new(feature, file, folder)
    described = named_or_read(stack)
    report(f"bringing up {described.about} …")
    with brought_up(described) as up, settled_in(up.environment):
        for refused in up.use():
            raise refused
        target, server = load_target(described.target_file), up.database.server.conninfo()
        return whole.draft(target, feature, file, server=server, folder=folder, report=report)
