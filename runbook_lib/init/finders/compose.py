"""A compose file: the services that are built from the repository, and the database next to them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from runbook_lib.init.found import Folder, Found, Service

RANK = 1
DATABASE = re.compile(r"(^|/)(postgres|postgresql|postgis|timescaledb|pgvector)\b")


def find(folder: Folder) -> Iterator[Found]:
    """Return the services of a compose file. Read-only."""
    for where, text in folder.files("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"):
        services = _services(text)
        built = [Service(name, port=_port(each)) for name, each in services.items() if "build" in each]
        others = [name for name, each in services.items() if "build" not in each]
        role = next((role for each in services.values() if (role := _role(each))), "")
        manager = "docker-compose" if built else ""
        yield Found(where, manager, built, others if built else (), role=role)


def _services(text: str) -> Mapping[str, Mapping[str, Any]]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    services = data.get("services") if isinstance(data, dict) else None
    return {str(name): each for name, each in (services or {}).items() if isinstance(each, dict)}


def _port(service: Mapping[str, Any]) -> int | None:
    """Return the first port of the machine that leads to it. Pure."""
    for each in service.get("ports") or ():
        published = str(each.get("published", "")) if isinstance(each, dict) else str(each)
        published = re.sub(r"\$\{\w+:?-(\d+)\}", r"\1", published)
        if match := re.fullmatch(r"(?:(?:\d+\.){3}\d+:)?(\d+)(?::\d+)?(?:/tcp)?", published):
            return int(match[1])
    return None


def _role(service: Mapping[str, Any]) -> str:
    """Return the role that a database is made with. Pure."""
    if not DATABASE.search(str(service.get("image", ""))):
        return ""
    given = service.get("environment") or {}
    if isinstance(given, list):
        given = dict(str(each).partition("=")[::2] for each in given)
    role = re.sub(r"^\$\{\w+:?-(\w+)\}$", r"\1", str(given.get("POSTGRES_USER", "")))
    return role if re.fullmatch(r"\w+", role) else ""
