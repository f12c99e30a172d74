"""The API serves what older clients read."""

from typing import Any

from runbook_lib.adapters.http import Answer
from runbook_lib.checks.round import Round
from runbook_lib.results import Result, Status

REFUSED = (401, 403)


def present(around: Round, name: str) -> Result:
    """Whether every item of every sample has the field, filled at least once. Read-only."""
    field = around.context.plan.api.present
    if (early := _unusable(around, name)) is not None:
        return early
    without, filled, items = 0, 0, 0
    for answer in around.answers.values():
        for item in _items(answer):
            items += 1
            without += field not in item
            filled += item.get(field) is not None
    good = items > 0 and without == 0 and filled > 0
    summary = f"{items} items of {len(around.answers)} samples: {without} without {field}, {filled} with a value in it"
    return around.result(name, Status.PASS if good else Status.FAIL, summary, samples=list(around.answers))


def absent_or_empty(around: Round, name: str) -> Result:
    """Whether no item of any sample has anything in the feature's field. Read-only."""
    field = around.context.plan.api.absent_or_empty
    if (early := _unusable(around, name)) is not None:
        return early
    items = [item for answer in around.answers.values() for item in _items(answer)]
    filled = sum(bool(item.get(field)) for item in items)
    return around.result(
        name,
        Status.FAIL if filled else Status.PASS if items else Status.UNKNOWN,
        f"{filled} of {len(items)} items hold something in {field}",
        samples=list(around.answers),
    )


def _unusable(around: Round, name: str) -> Result | None:
    statuses = {sample: answer.status for sample, answer in around.answers.items()}
    listed = ", ".join(f"{sample}: {status}" for sample, status in statuses.items())
    if any(status in REFUSED for status in statuses.values()):
        return around.result(name, Status.UNKNOWN, f"the API refused the token, which says nothing of the data ({listed})")
    if any(status >= 500 for status in statuses.values()):
        return around.result(name, Status.UNKNOWN, f"the API could not answer ({listed})")
    if any(status != 200 for status in statuses.values()):
        return around.result(name, Status.FAIL, f"the API does not serve what the database holds ({listed})")
    return None


def _items(answer: Answer) -> list[dict[str, Any]]:
    body = answer.json
    if isinstance(body, dict):
        body = next((value for value in body.values() if isinstance(value, list)), [])
    return [item for item in body if isinstance(item, dict)] if isinstance(body, list) else []
