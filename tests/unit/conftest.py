"""The plan of this project, and a target with nothing behind it."""

from pathlib import Path

import pytest

from runbook_lib.plan import Plan, load_plan
from runbook_lib.target import Target, load_target

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def plan() -> Plan:
    return load_plan(ROOT / "parameters" / "feat-2025-20251103111429.yaml")


@pytest.fixture(scope="session")
def target() -> Target:
    names = ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON", "APPLICATION_ROLE")
    environment = {f"REHEARSAL_{name}": f"http://{name.lower()}.test" for name in names}
    return load_target(ROOT / "parameters" / "rehearsal.yaml", environment)
