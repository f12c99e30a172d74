"""Permanently cleans up what a run left pending, such as undo data, after its own preview."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runbook_lib.context.adapters import Adapters
from runbook_lib.errors import Declined, ParametersError
from runbook_lib.journal.control import Reporter
from runbook_lib.journal.folder import RunFolder
from runbook_lib.run import Run, approval, lifecycle
from runbook_lib.run.lease import leased
from runbook_lib.steps import Preview, Step, step_named


def preview(run: Run, item: str = "", approved: str = "") -> tuple[str, list[Preview]]:
    """Preview the cleanup, or that of one item, and return its digest for an approval. Read-only.

    Raises:
        ParametersError: The run has no such pending cleanup.
    """
    found = [step.cleanup_preview(own) for step, own in (_step(run, name) for name in _named(run, item, approved))]
    return approval.digest({f"{n} {p.step}": approval.bound([p])[p.step] for n, p in enumerate(found)}), found


def clean_up(run: Run, digest: str, approved: str, item: str = "") -> None:
    """Do the previewed cleanup, and seal the folder again. Changes the target permanently.

    The approval stays valid for the rest, so the same command resumes an interrupted purge.

    Raises:
        Declined: The approved digest is not the preview's.
    """
    names = _named(run, item, approved)
    resumed = set(names) <= _approved_before(run, approved) != set()
    if digest != approved and not resumed:
        raise Declined(
            f"The preview is {digest} now, but {approved} was approved.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next="Read the preview, then approve its digest.",
        )
    if not resumed:
        run.journal.append("purge-approved", digest=approved, debts=list(names), by=run.context.operator)
    with run.folder.lock(), leased(run):
        _clean_up(run, names)
    lifecycle.write_archive(run)


def clean_up_due(run: Run) -> None:
    """Clean up what a killed process left that blocks any look at the target. Changes the target, if needed.

    A waived item is tried once: if that fails, it stays pending cleanup, and the run continues.

    Raises:
        PreconditionError: Another process acts in this run, or on its target.
    """
    if _due(run):
        with run.folder.lock(), leased(run):
            for name in _due(run):
                step, own = _step(run, name)
                if step.DUE_AT_ONCE[own] in run.state.waivers:
                    _journal_left(run, name, step.clean_up_waived(own))
                else:
                    _clean_up(run, [name])


def _journal_left(run: Run, name: str, left: str) -> None:
    """Journal once what is left of a waived cleanup item, "" for nothing."""
    item = run.state.pending.get(name)
    if item and left and left != item["text"]:
        run.journal.append("owed", **{**item, "text": left})


def _due(run: Run) -> list[str]:
    """Return the pending cleanup that is due immediately. Read-only."""
    own = {n: d for n, d in run.state.pending.items() if d["step"] in run.context.plan.steps}
    return [n for n, d in own.items() if d.get("its", n) in step_named(run.context, d["step"]).DUE_AT_ONCE]


def _clean_up(run: Run, names: Sequence[str]) -> None:
    for name in names:
        step, own = _step(run, name)
        left = step.clean_up(own)
        run.journal.append("purged", debt=name, outcome=dict(left))


def _step(run: Run, name: str) -> tuple[Step, str]:
    """Return the step that cleans an item up, and the step's own name for it; adopted items name their run."""
    item = run.state.pending[name]
    if item["step"] not in run.context.plan.steps:
        raise ParametersError(
            f"{item['step']}, which left {name}, is not a step of this run's plan.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Use the plan of the run that left it: runbook purge {run.folder.path.with_name(item['of'])}",
        )
    if "of" not in item:
        return step_named(run.context, item["step"]), name

    def report(kind: str, **data: Any) -> object:
        return run.journal.append(kind, **{**data, **({"debt": name} if data.get("debt") == item["its"] else {})})

    folder = RunFolder(run.folder.path.with_name(item["of"]))
    adapters = Adapters(run.context.target, folder, run.context.operator)
    context = replace(run.context, folder=folder, adapters=adapters, reporter=Reporter(report, lambda: [item["its"]]))
    return step_named(context, item["step"]), item["its"]


def _approved_before(run: Run, approved: str) -> set[str]:
    """Return the cleanup that the last approved purge covers, done or not, if it has this digest. Read-only."""
    before = run.state.purge
    return set(before["debts"]) if before and before["digest"] == approved else set()


def _named(run: Run, item: str, approved: str) -> Sequence[str]:
    pending = list(run.state.pending)
    if item and item not in pending and item in _approved_before(run, approved):
        return []
    if item and item not in pending:
        raise ParametersError(
            f"This run has no pending cleanup by the name {item!r}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Pending cleanup: {', '.join(pending) or 'nothing'}.",
        )
    return [item] if item else pending
