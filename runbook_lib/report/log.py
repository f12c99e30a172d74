"""The rollback log: the plan's own log template, filled from the journal."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from runbook_lib.config.plan import Area, Plan, RepositoryStep
from runbook_lib.journal.event import Event
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.report.facts import not_passed, rollback_type, steps, title, type_title, verdict
from runbook_lib.report.templates import render


def write_log(folder: RunFolder, plan: Plan, state: RunState, events: Sequence[Event]) -> Path:
    """Write `rollback-log.md` into the run's folder."""
    return folder.write_text(
        "rollback-log.md",
        render(
            "rollback-log.md.j2",
            plan=plan,
            state=state,
            verdict=verdict(plan, state, events),
            type_title=type_title(plan, state),
            actions=_actions(plan, state),
            areas={area: _area(plan, state, area) for area in get_args(Area)},
            notes=_notes(state),
        ),
    )


def _actions(plan: Plan, state: RunState) -> list[tuple[bool, str]]:
    """Each action of the template: whether it was done, and its line."""
    lines: dict[str, list[str]] = {}
    for name, spec in plan.steps.items():
        repository = spec.repository.capitalize() if isinstance(spec, RepositoryStep) else ""
        if line := spec.about.log_line.format(repository=repository):
            lines.setdefault(line, []).append(name)
    last = sorted(lines, key=lambda line: any(plan.steps[name].about.starts for name in lines[line]))
    return [*(_action(line, lines[line], plan, state) for line in last), _verified(plan, state)]


def _action(label: str, names: Iterable[str], plan: Plan, state: RunState) -> tuple[bool, str]:
    """Done when every step behind it that belongs to this run is done; otherwise the line says what each of them is."""
    concerned = [step for step in steps(plan, state) if step.name in names]
    if not concerned:
        return False, f"{label} (not part of this rollback type)"
    if all(step.is_done for step in concerned):
        return True, label
    if all(step.status == "pending" for step in concerned):
        return False, label
    return False, f"{label} ({'; '.join(f'{step.title}: {step.status}' for step in concerned)})"


def _verified(plan: Plan, state: RunState) -> tuple[bool, str]:
    missing = not_passed(plan, state)
    done = bool(state.checks.get("after")) and not missing
    label = "Verification completed"
    return done, label if done or not state.checks.get("after") else f"{label} ({_listed(plan, state, missing)})"


def _area(plan: Plan, state: RunState, area: Area) -> str:
    """OK only where every check of the area was made and passed."""
    after = state.checks.get("after", {})
    kind = rollback_type(plan, state)
    expected = dict.fromkeys([*(state.due(kind.checks) if kind else []), *after])
    names = [name for name in expected if name in plan.checks and plan.checks[name].area == area]
    if not names:
        return "not checked by this rollback type"
    if not any(name in after for name in names):
        return "not checked"
    issues = {name: status for name, status in not_passed(plan, state).items() if name in names}
    return f"Issues: {_listed(plan, state, issues)}" if issues else "OK"


def _listed(plan: Plan, state: RunState, statuses: dict[str, str]) -> str:
    def one(name: str, status: str) -> str:
        summary = state.checks.get("after", {}).get(name, {}).get("summary")
        waived = ", waived" if name in state.waivers else ""
        return f"{title(plan, name)} ({status}{waived}{f': {summary}' if summary else ''})"

    return "; ".join(one(name, status) for name, status in statuses.items())


def _notes(state: RunState) -> list[str]:
    by_status = {
        "failed": "{0.title} failed: {0.error}",
        "started": "{0.title} was begun and its outcome is not known.",
        "undone": "{0.title} was undone.",
    }
    return [
        *(f"Chosen against the triage's advice: {o['chosen']}, because {o['reason']}" for o in state.overrides),
        *(f"Escalated from {move['from']} to {move['to']}: {move['because']}" for move in state.escalations),
        *(by_status[step.status].format(step) for step in state.steps.values() if step.status in by_status),
        *state.notes,
    ]
