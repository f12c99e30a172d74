"""A round of checks on samples that need no database."""

from datetime import UTC, datetime
from typing import Any

from runbook_lib import checks
from runbook_lib.checks import CheckContext
from runbook_lib.context import Context
from runbook_lib.results import Result
from runbook_lib.system.http import Answer, MemoryHttp

SINCE = datetime(2025, 11, 3, 12, 0, tzinfo=UTC)


class Known(CheckContext):
    """A round in which each sample holds two items, one of them with a picture."""

    samples = ["7", "8"]  # type: ignore[assignment]

    @property
    def expected(self) -> dict[str, tuple[int, list[str]]]:  # type: ignore[override]
        return dict.fromkeys(self.samples, (2, ["/media/1.png"]))


def given(context: Context, **twins: Any) -> None:
    context.adapters = context.adapters.but(**twins)


def check(checked: CheckContext, name: str) -> Result:
    (found,) = checks.run([name], checked)
    return found


def api(context: Context, first: Answer | type[OSError], second: Answer) -> None:
    def answer(url: str, token: str | None) -> Answer:
        found = {"7": first, "8": second}[url.split("/")[-2]]
        if not isinstance(found, Answer):
            raise found("refused")
        return found if token == "unit-bearer" else Answer.of(401, "{}")

    given(context, http=MemoryHttp(answer))
