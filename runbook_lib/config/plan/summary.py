"""A plan in a few lines for each of its types, and as plain values. Pure."""

from typing import Any

from runbook_lib.config.plan import Plan, RollbackType


def lines(plan: Plan) -> list[str]:
    """Return what the plan has, then each type with its steps and checks by their titles. Pure."""
    parts = ", ".join(sorted(plan.parts)) or "none"
    types = [line for name, kind in plan.types.items() for line in _of(plan, name, kind)]
    return [f"{plan.feature}: {plan.title} (parts: {parts})", *types]


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the same as plain values, with the names of steps and checks. Pure."""
    return {
        "feature": plan.feature,
        "title": plan.title,
        "parts": sorted(plan.parts),
        "types": {name: _values(plan, kind) for name, kind in plan.types.items()},
    }


def _of(plan: Plan, name: str, kind: RollbackType) -> list[str]:
    if kind.by_hand:
        return [f"{name}: {kind.title}. By hand: {kind.by_hand}"]
    if kind.carried_out_as:
        return [f"{name}: {kind.title}. As {kind.carried_out_as}" + (f": {kind.because}" if kind.because else "")]
    steps = [f"{plan.steps[n].title}{_in(plan.steps[n].options, kind)}" for n in kind.steps]
    checks = [plan.checks[check].title for check in kind.checks]
    options = (
        [f"  Options: {', '.join(f'{option} ({text})' for option, text in kind.options.items())}"] if kind.options else []
    )
    return [f"{name}: {kind.title}", *options, f"  Steps: {'; '.join(steps)}", f"  Checks: {'; '.join(checks) or 'none'}"]


def _in(options: list[str], kind: RollbackType) -> str:
    own = [name for name in options if name in kind.options]
    return f" [{', '.join(own)}]" if own and len(kind.options) > 1 else ""


def _values(plan: Plan, kind: RollbackType) -> dict[str, Any]:
    return {
        "title": kind.title,
        "options": kind.options,
        "steps": [{"name": n, "title": plan.steps[n].title, "options": plan.steps[n].options} for n in kind.steps],
        "checks": [{"name": name, "title": plan.checks[name].title} for name in kind.checks],
        "carried_out_as": kind.carried_out_as,
        "by_hand": kind.by_hand,
    }
