"""Reads plans and targets, with the keys of every kind of step, check and service manager that is installed."""

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError, create_model

from runbook_lib import checks, records, services, steps
from runbook_lib.config.kinds import by_name, union
from runbook_lib.config.loading import NOTHING_TOUCHED, ROOT, explained, load, located, packaged, problems_of, read, secret
from runbook_lib.config.plan import Plan
from runbook_lib.config.plan.earlier import of_earlier_plan
from runbook_lib.config.plan.parts import Unfit
from runbook_lib.config.plan.standard import extended, left_out
from runbook_lib.config.target import Target
from runbook_lib.errors import ParametersError


@cache
def plan_model() -> type[Plan]:
    """Return the model of a plan with the kinds of step and check that are installed. Read-only."""
    fields: dict[str, Any] = {
        "steps": (by_name(step.Keys for step in steps.kinds().values()), ...),
        "checks": (by_name(check.keys for check in checks.kinds().values()), {}),
    }
    return create_model("Plan", __base__=Plan, **fields)


@cache
def target_model() -> type[Target]:
    """The model of a target with the kinds of service manager and of place for records that are installed. Read-only."""
    managers = union((manager.Keys for manager in services.kinds().values()), by="manager")
    places = union(place.Keys for place in records.kinds().values())
    fields: dict[str, Any] = {"services": (managers, ...), "records": (places | None, None)}
    return create_model("Target", __base__=Target, **fields)


def load_plan(path: Path, *, undrafted: bool = False) -> Plan:
    """Read a plan from its YAML file, over the standard plan where it extends that. Read-only.

    A file whose content is known is not read again: a fleet loads its plan for each target.
    Where it is `undrafted`, its draft is what it is read for: one that it names need not be there yet.

    Raises:
        ParametersError: A key is unknown, missing or of the wrong type, or something requires a part that is absent.
    """
    found = located(path)
    return _loaded(path, found.read_bytes() if found.is_file() else b"", undrafted)


@lru_cache(maxsize=8)
def _loaded(path: Path, _content: bytes, undrafted: bool) -> Plan:
    return _resolved(path, UNDRAFTED if undrafted else {})[1]


def resolved(path: Path) -> dict[str, Any]:
    """The whole of a plan as plain values, in the order of the reference, with what the standard plan brings. Read-only.

    Raises:
        ParametersError: As `load_plan`.
    """
    data = json.loads(json.dumps(_resolved(path)[0]))  # so that it shares no list with anything
    order = [field.alias or name for name, field in plan_model().model_fields.items()]
    return {key: data[key] for key in order if key in data}


def digest(path: Path) -> str:
    """Return the SHA-256 of a plan's file, and of the standard plan too where it extends that. Read-only.

    Raises:
        ParametersError: The file cannot be read.
    """
    try:
        content = located(path).read_bytes()
    except OSError as error:
        raise ParametersError(
            f"{path} cannot be read: {error.strerror}.",
            state=NOTHING_TOUCHED,
            safe_next=f"Name a file that exists; a relative path starts from {ROOT}.",
        ) from None
    return _digest(path, content)


@lru_cache(maxsize=8)
def _digest(path: Path, content: bytes) -> str:
    if read(path).get("extends"):
        content += json.dumps(_standard()).encode()
    return hashlib.sha256(content).hexdigest()


OF_THE_WHOLE = ("missing", "union_tag_not_found", "value_error")  # problems that a plan may have before it is extended


@cache
def _standard() -> dict[str, Any]:
    return packaged("runbook_lib.config.plan", "standard.yaml")


UNDRAFTED = {"draft": {"changes": "none.changes.yaml", "sha256": "0" * 64}}


def _resolved(path: Path, instead: Mapping[str, Any] = MappingProxyType({})) -> tuple[dict[str, Any], Plan]:
    data, model = of_earlier_plan(read(path)) | instead, plan_model()
    if data.get("extends") is None:
        if data.get("without"):
            raise ParametersError(
                "`without` leaves names out of the plan that is extended, and this one extends none.",
                where=str(path),
                state=NOTHING_TOUCHED,
                safe_next="Add `extends: standard`, or take `without` out.",
            )
        try:
            return data, model.model_validate(data)
        except ValidationError as error:
            raise explained(path, problems_of(error), model) from None
    try:
        model.model_validate(data)
    except ValidationError as error:
        if problems := [each for each in problems_of(error) if each["type"] not in OF_THE_WHOLE]:
            raise explained(path, problems, model) from None
    whole = extended(data, _standard(), str(path))
    data = whole.data
    while True:
        try:
            return data, model.model_validate(data)
        except ValidationError as error:
            problems = problems_of(error)
            causes = [each.get("ctx", {}).get("error") for each in problems]
            names = whole.may_go & {name for each in causes if isinstance(each, Unfit) for name in each.names}
            if not names:
                raise explained(path, problems, model) from None
            data = left_out(data, names, whole.only_with_options)


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
    if target.metrics and target.metrics.token:
        secret(target.metrics.token.env, f"{path}, key metrics", environment)
    for pooler in target.pooler:
        if pooler.password:
            secret(pooler.password.env, f"{path}, key pooler", environment)
    return target
