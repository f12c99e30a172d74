"""A round of checks on samples that need no database."""

import pytest

from runbook_lib.checks import CheckContext
from runbook_lib.context import Context

from ...support.checking import SINCE, Known


@pytest.fixture
def checked(context: Context) -> CheckContext:
    return Known(context, "after", SINCE)
