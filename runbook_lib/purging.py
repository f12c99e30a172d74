"""Pays what a run owes: the ways back that it kept, given up for good after a preview of their own."""

from collections.abc import Sequence

from runbook_lib import approval, closing
from runbook_lib.errors import Declined, ParametersError
from runbook_lib.leasing import leased
from runbook_lib.run import Run
from runbook_lib.steps import step_named
from runbook_lib.steps.base import Preview


def preview(run: Run, debt: str = "") -> tuple[str, list[Preview]]:
    """What paying the open debts would do, and the digest that an approval names; one debt where it is named. Read-only.

    Raises:
        ParametersError: The run owes no such debt.
    """
    found = [step_named(run.context, run.state.debts[name]["step"]).purge_preview(name) for name in _named(run, debt)]
    return approval.digest({f"{n} {p.step}": approval.bound([p])[p.step] for n, p in enumerate(found)}), found


def pay(run: Run, digest: str, approved: str, debt: str = "") -> None:
    """Pay the debts that a preview showed, and seal the folder anew. Changes the target, for good.

    Raises:
        Declined: The digest approved is not the preview's.
    """
    if digest != approved:
        raise Declined(
            f"The preview is {digest} now, and {approved} was approved.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next="Read the preview, then approve its digest.",
        )
    with run.folder.lock(), leased(run):
        for name in _named(run, debt):
            left = step_named(run.context, run.state.debts[name]["step"]).purge(name)
            run.journal.append("purged", debt=name, outcome=dict(left))
    closing.write_archive(run)


def _named(run: Run, debt: str) -> Sequence[str]:
    debts = list(run.state.debts)
    if debt and debt not in debts:
        raise ParametersError(
            f"This run owes nothing by the name {debt!r}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"It owes: {', '.join(debts) or 'nothing'}.",
        )
    return [debt] if debt else debts
