"""Reads plans and targets, with the keys of every kind of step, check and service manager that is installed."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import create_model

from runbook_lib import checks, services, steps
from runbook_lib.config.kinds import by_name, union
from runbook_lib.config.loading import load, secret
from runbook_lib.config.plan import Plan
from runbook_lib.config.target import Target


@cache
def plan_model() -> type[Plan]:
    """The model of a plan with the kinds of step and check that are installed. Read-only."""
    fields: dict[str, Any] = {
        "steps": (by_name(step.Keys for step in steps.kinds().values()), ...),
        "checks": (by_name(check.keys for check in checks.kinds().values()), {}),
    }
    return create_model("Plan", __base__=Plan, **fields)


@cache
def target_model() -> type[Target]:
    """The model of a target with the kinds of service manager that are installed. Read-only."""
    managers = union((manager.Keys for manager in services.kinds().values()), by="manager")
    fields: dict[str, Any] = {"services": (managers, ...)}
    return create_model("Target", __base__=Target, **fields)


def load_plan(path: Path) -> Plan:
    """Read a plan from its YAML file. Read-only.

    Raises:
        ParametersError: A key is unknown, missing or of the wrong type.
    """
    return load(path, plan_model())


def load_target(path: Path, environment: Mapping[str, str] = os.environ) -> Target:
    """Read a target from its YAML file and make sure that its secrets are there. Read-only.

    Raises:
        ParametersError: A key is unknown, missing or of the wrong type, a secret is missing, or a production target has a
            placeholder for a contact.
    """
    target = load(path, target_model(), environment)
    if target.api_token:
        secret(target.api_token.env, f"{path}, key api_token", environment)
    if target.reference_api and target.reference_api.token:
        secret(target.reference_api.token.env, f"{path}, key reference_api", environment)
    return target
