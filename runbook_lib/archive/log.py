"""The rollback log: the plan's own log template, filled from the journal."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from runbook_lib.archive.facts import not_passed, rollback_type, steps, title, type_title, verdict
from runbook_lib.archive.templates import render
from runbook_lib.folder import RunFolder
from runbook_lib.journal import Event
from runbook_lib.plan import Plan, RepositoryStep
from runbook_lib.state import RunState

_AREAS = {
    "Services": ("services", "logs"),
    "Database": ("schema", "proof", "integrity", "slow_queries", "reference", "sessions"),
    "API": ("api_present", "api_absent", "latency"),
    "Frontend": ("page_media", "page_served", "page_console", "page_thread", "page_render", "page_returning", "fresh"),
}


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
            areas={area: _area(plan, state, kinds) for area, kinds in _AREAS.items()},
            notes=_notes(state),
        ),
    )


def _actions(plan: Plan, state: RunState) -> list[tuple[bool, str]]:
    """Each action of the template: whether it was done, and its line."""
    return [
        _action("Services stopped", _of_kind(plan, "stop"), plan, state),
        _action("Database rolled back", _of_kind(plan, "clear_backfill", "remove_columns", "swap_database"), plan, state),
        *(_action(f"{name.capitalize()} code reverted", _reverting(plan, name), plan, state) for name in plan.repositories),
        _action("Services restarted", _of_kind(plan, "start", "restart"), plan, state),
        _verified(plan, state),
    ]


def _of_kind(plan: Plan, *kinds: str) -> list[str]:
    return [name for name, step in plan.steps.items() if step.kind in kinds]


def _reverting(plan: Plan, repository: str) -> list[str]:
    specs = ((name, plan.steps[name]) for name in _of_kind(plan, "revert"))
    return [name for name, spec in specs if isinstance(spec, RepositoryStep) and spec.repository == repository]


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


def _area(plan: Plan, state: RunState, kinds: tuple[str, ...]) -> str:
    """OK only where every check of the area was made and passed."""
    after = state.checks.get("after", {})
    kind = rollback_type(plan, state)
    expected = dict.fromkeys([*(state.due(kind.checks) if kind else []), *after])
    names = [name for name in expected if name in plan.checks and plan.checks[name].kind in kinds]
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
