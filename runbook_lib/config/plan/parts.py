"""The optional parts of a plan, and how a kind of step or check that requires one gets it."""

from collections.abc import Iterable
from typing import Literal, TypeVar

from runbook_lib.config.loading import Misplaced
from runbook_lib.errors import ParametersError

Part = Literal["api", "page", "repositories", "database", "migration", "backfill", "backfills", "draft"]

P = TypeVar("P")


class Unfit(Misplaced):
    """Steps and checks whose parts the plan lacks, or types that its compatibility table contradicts, by their tables."""

    def __init__(self, text: str, names: Iterable[tuple[str, str]]) -> None:
        self.names = frozenset(names)
        super().__init__(text, *min(self.names))


def there(value: P | None, part: Part) -> P:
    """Hand a part over to what requires it. Pure.

    Raises:
        ParametersError: The plan lacks it, so that what asked did not declare it.
    """
    if value is None:
        raise ParametersError(
            f"The plan has no {part}, and something that does not declare it as required asked for it.",
            state="Nothing was touched.",
            safe_next=f"Add {part} to the plan, or to `requires` of the kind of step or check that works with it.",
        )
    return value
