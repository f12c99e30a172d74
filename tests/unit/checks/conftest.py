"""A round of checks on samples that need no database."""

import pytest

from runbook_lib.checks import CheckContext
from runbook_lib.context import Context

from ...support.checking import SINCE, Known


@pytest.fixture
def checked(context: Context) -> CheckContext:
    """Of a plan that says that all rows are served, each with the field, and so are shown."""
    of_api = context.plan.api.model_copy(update={"rows": "all", "omitted": "missing"})
    context.plan = context.plan.model_copy(update={"api": of_api})
    return Known(context, "after", SINCE)
