"""The API serves what older clients read."""

from collections.abc import Mapping
from typing import Any

from runbook_lib.adapters.http import Answer
from runbook_lib.checks.round import Round
from runbook_lib.plan import ColumnOfRow
from runbook_lib.results import Result, Status

REFUSED = (401, 403)
TOO_MANY = 429


def present(around: Round, name: str) -> Result:
    """Whether every item of every sample has the field, filled at least once. Read-only."""
    field = around.context.plan.api.present
    if (early := unusable(around, name)) is not None:
        return early
    served = {sample: items(answer) for sample, answer in around.answers.items()}
    every = [item for rows in served.values() for item in rows]
    without = sum(at(item, field) is ABSENT for item in every)
    filled = sum(bool(at(item, field)) for item in every)
    blank = [sample for sample, rows in served.items() if not any(at(item, field) for item in rows)]
    summary = f"{len(every)} items of {len(served)} samples: {without} without {field}, {filled} with a value in it"
    if blank:
        summary += f"; none at all in {', '.join(blank)}"
    return around.result(name, Status.FAIL if without or blank else Status.PASS, summary, samples=list(served))


def absent_or_empty(around: Round, name: str) -> Result:
    """Whether no item of any sample has anything in the feature's field. Read-only."""
    field = around.context.plan.api.absent_or_empty
    if (early := unusable(around, name)) is not None:
        return early
    served = {sample: items(answer) for sample, answer in around.answers.items()}
    every = [item for rows in served.values() for item in rows]
    filled = sum(bool(at(item, field)) for item in every)
    unserved = [sample for sample, rows in served.items() if not rows]
    summary = f"{filled} of {len(every)} items hold something in {field}"
    return around.result(
        name,
        Status.FAIL if filled else Status.UNKNOWN if unserved else Status.PASS,
        summary + (f"; no item was served of {', '.join(unserved)}" if unserved else ""),
        samples=list(around.answers),
    )


def unusable(around: Round, name: str, answers: Mapping[str, Answer] | None = None) -> Result | None:
    """What is to be said of the API where its answers, else the round's, tell nothing of the data, else None. Read-only."""
    statuses = {sample: answer.status for sample, answer in (around.answers if answers is None else answers).items()}
    listed = ", ".join(f"{sample}: {status}" for sample, status in statuses.items())
    if any(status in REFUSED for status in statuses.values()):
        return around.result(name, Status.UNKNOWN, f"the API refused the token, which says nothing of the data ({listed})")
    if any(status >= 500 or status == TOO_MANY for status in statuses.values()):
        return around.result(name, Status.UNKNOWN, f"the API could not answer ({listed})")
    if any(status != 200 for status in statuses.values()):
        return around.result(name, Status.FAIL, f"the API does not serve what the database holds ({listed})")
    return None


def media_by_field(around: Round, rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The media that the items name, in the field of older clients and in the feature's. Read-only."""
    plan = around.context.plan
    written = plan.database.backfill.written.items()
    keys = [
        name for name, value in written if isinstance(value, ColumnOfRow) and value.column == plan.database.backfill.source
    ]
    older = [str(value) for item in rows if (value := at(item, plan.api.present))]
    lists = [at(item, plan.api.absent_or_empty) for item in rows]
    elements = [element for listed in lists if isinstance(listed, list) for element in listed if isinstance(element, dict)]
    return {
        plan.api.present: older,
        plan.api.absent_or_empty: [element[key] for element in elements for key in keys if element.get(key)],
    }


class _Absent:
    """The value at a path that is not there; it holds nothing."""

    def __bool__(self) -> bool:
        return False


ABSENT = _Absent()


def at(item: Any, path: str) -> Any:
    """The value at a path of keys parted by dots, ABSENT where a key is not there. Pure."""
    for key in path.split("."):
        if not isinstance(item, dict) or key not in item:
            return ABSENT
        item = item[key]
    return item


def items(answer: Answer) -> list[dict[str, Any]]:
    """The items in an answer: its list, or the first list in its object. Read-only."""
    body = answer.json
    if isinstance(body, dict):
        body = next((value for value in body.values() if isinstance(value, list)), [])
    return [item for item in body if isinstance(item, dict)] if isinstance(body, list) else []
