"""The API serves what older clients read."""

from typing import Any

from runbook_lib.adapters.http import Answer
from runbook_lib.checks.round import Round
from runbook_lib.results import Result, Status

REFUSED = (401, 403)
TOO_MANY = 429


def present(around: Round, name: str) -> Result:
    """Whether every item of every sample has the field, filled at least once. Read-only."""
    field = around.context.plan.api.present
    if (early := _unusable(around, name)) is not None:
        return early
    served = {sample: _items(answer) for sample, answer in around.answers.items()}
    items = [item for rows in served.values() for item in rows]
    without = sum(field not in item for item in items)
    filled = sum(bool(item.get(field)) for item in items)
    blank = [sample for sample, rows in served.items() if not any(item.get(field) for item in rows)]
    summary = f"{len(items)} items of {len(served)} samples: {without} without {field}, {filled} with a value in it"
    if blank:
        summary += f"; none at all in {', '.join(blank)}"
    return around.result(name, Status.FAIL if without or blank else Status.PASS, summary, samples=list(served))


def absent_or_empty(around: Round, name: str) -> Result:
    """Whether no item of any sample has anything in the feature's field. Read-only."""
    field = around.context.plan.api.absent_or_empty
    if (early := _unusable(around, name)) is not None:
        return early
    served = {sample: _items(answer) for sample, answer in around.answers.items()}
    items = [item for rows in served.values() for item in rows]
    filled = sum(bool(item.get(field)) for item in items)
    unserved = [sample for sample, rows in served.items() if not rows]
    summary = f"{filled} of {len(items)} items hold something in {field}"
    return around.result(
        name,
        Status.FAIL if filled else Status.UNKNOWN if unserved else Status.PASS,
        summary + (f"; no item was served of {', '.join(unserved)}" if unserved else ""),
        samples=list(around.answers),
    )


def _unusable(around: Round, name: str) -> Result | None:
    statuses = {sample: answer.status for sample, answer in around.answers.items()}
    listed = ", ".join(f"{sample}: {status}" for sample, status in statuses.items())
    if any(status in REFUSED for status in statuses.values()):
        return around.result(name, Status.UNKNOWN, f"the API refused the token, which says nothing of the data ({listed})")
    if any(status >= 500 or status == TOO_MANY for status in statuses.values()):
        return around.result(name, Status.UNKNOWN, f"the API could not answer ({listed})")
    if any(status != 200 for status in statuses.values()):
        return around.result(name, Status.FAIL, f"the API does not serve what the database holds ({listed})")
    return None


def _items(answer: Answer) -> list[dict[str, Any]]:
    body = answer.json
    if isinstance(body, dict):
        body = next((value for value in body.values() if isinstance(value, list)), [])
    return [item for item in body if isinstance(item, dict)] if isinstance(body, list) else []
