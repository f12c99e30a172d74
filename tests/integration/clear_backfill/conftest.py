"""The backfill of a run with option A, and each way to clear it."""

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.postgres.backfill import Backfill


@pytest.fixture
def backfill(plan: Plan) -> Backfill:
    return Backfill(plan.database, "test")


@pytest.fixture(params=["swap", "batched", "keyed"])
def strategy(request: pytest.FixtureRequest) -> str:
    return str(request.param)
