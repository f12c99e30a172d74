"""Begins a run, or takes one up where it was left."""

from __future__ import annotations

import hashlib
from pathlib import Path

from runbook_lib.config.loading import ROOT, located
from runbook_lib.config.plan import Plan
from runbook_lib.config.target import pair
from runbook_lib.context import Context, profiles
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_plan, load_target
from runbook_lib.errors import ParametersError, PreconditionError
from runbook_lib.journal import VERSION, Journal, elapsed
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState, replay
from runbook_lib.redaction import register_environment
from runbook_lib.run import Run
from runbook_lib.system import temporary


def open_new(
    plan_file: Path,
    target_file: Path,
    type_name: str,
    *,
    option: str = "A",
    operator: str = "",
    reason: str = "",
    incident: str = "",
    outputs: Path = ROOT / "outputs",
) -> Run:
    """Begin a run: read plan and target, make its folder, journal who, what and why.

    Raises:
        ParametersError: Anything about the plan, the target or the parameters is wrong; no folder was made.
    """
    register_environment()
    plan, target = load_plan(plan_file), load_target(target_file)
    pair(plan, target, target_file)
    carried_out = plan.carried_out(type_name) if type_name else ""
    options = list(plan.types[carried_out].options) if carried_out else []
    if options and option not in options:
        raise ParametersError(
            f"The rollback type {carried_out} has no option {option!r}.",
            where=str(plan_file),
            state="Nothing was touched.",
            safe_next=f"Choose one of: {', '.join(options)}.",
        )
    if target.is_production and not (operator and reason):
        raise ParametersError(
            "A run on production needs the operator's name and a reason.",
            where=f"target {target.name}",
            state="Nothing was touched.",
            safe_next="Fill in OPERATOR and REASON.",
        )
    folder = RunFolder.create(outputs, incident, carried_out or "triage")
    Journal(folder.journal_path).append(
        "opened",
        version=VERSION,
        plan=plan.feature,
        plan_file=_portable(plan_file),
        plan_sha256=_sha256(plan_file),
        target=target.name,
        target_file=_portable(target_file),
        environment=target.environment,
        type=carried_out,
        option=option,
        operator=operator,
        reason=reason,
        incident=incident,
        clock=elapsed.here(),
    )
    return open_existing(folder.path)


def read(path: Path) -> tuple[RunFolder, Plan, RunState]:
    """A run's folder, its plan and its state by the journal, without its target. Read-only.

    Raises:
        ParametersError: The folder holds no run.
    """
    folder = RunFolder.open(located(path))
    state = replay(Journal(folder.journal_path).events())
    return folder, load_plan(Path(state.opened["plan_file"])), state


def open_existing(path: Path, operator: str = "") -> Run:
    """Take up a run in its folder, where it was left.

    Raises:
        ParametersError: The folder holds no run, or its target does not fit its plan.
        PreconditionError: The plan has changed since the run began.
    """
    register_environment()
    temporary.sweep()
    profiles.sweep()
    folder, plan, state = read(path)
    opened = state.opened
    plan_file, target_file = Path(opened["plan_file"]), Path(opened["target_file"])
    if _sha256(plan_file) != opened["plan_sha256"]:
        raise PreconditionError(
            "The plan has changed since this run began.",
            where=str(plan_file),
            state="Nothing was touched by this process.",
            safe_next="Put the plan back as it was, or begin a new run, which finds what is done already.",
        )
    target = load_target(target_file)
    pair(plan, target, target_file)
    by = operator or state.operator
    return Run(folder, Context(plan, target, folder, Adapters(target, folder, by), state, by))


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(located(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ParametersError(
            f"{path} cannot be read: {error.strerror}.",
            state="Nothing was touched.",
            safe_next="Name a file below parameters/.",
        ) from None


def _portable(path: Path) -> str:
    """A path below the project as it is from there, so that the journal can be read on another machine."""
    full = located(path).resolve()
    return str(full.relative_to(ROOT)) if full.is_relative_to(ROOT) else str(full)
