"""The target of a team's production, as far as its repository says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from runbook_lib.init.commented import Asked, Known
from runbook_lib.init.found import Service
from runbook_lib.init.team import Team

ROLES = ("On-Call Engineer", "Database Admin", "DevOps Lead", "Product Owner")  # as the standard plan names them
HEAD = """\
# Where a rollback of {name} runs: production, as far as this repository says it. Written by `runbook init`.
# You must fill in each null with `decide:`; until then, every command that reads this file stops and names it.
# Never write secrets here: only the name of an environment variable, or of a libpq service.
# Where a plan says `rehearsed_within`, name the place of records here and in the target of rehearsals alike, as
# records: {{kind: branch, repository: ., remote: origin}}; CI must be allowed to push then (docs/how-to/keep-records.md).
# docs/parameters.md has all keys (Target), docs/managers.md those of each manager of services.
"""
LOGS = "{log: 'version (\\w+) started'}"
VERSION = f"how it says which commit it runs: {LOGS} or {{by: manager}}"
VERSION_BY_URL = "how it says which commit it runs: {url: ADDRESS, field: version}, as %s, or a log: docs/managers.md"


def target(team: Team) -> dict[str, Any]:
    """Return the keys of that target. Pure."""
    return {
        "name": f"{team.name}-production",
        "environment": "production",
        "database": {
            "service": Asked("the section of ~/.pg_service.conf by which the runbook connects, with a role of its own"),
            "application_role": team.value("role", "the role that the services connect with"),
        },
        "backups": {
            "directory": Asked("the folder that holds the database's backups, as pg_dump -Fc makes them"),
            "pattern": Asked(f"their file names, as {team.name}_*.dump"),
            "oldest_hours": 48,
        },
        "services": {
            **_manager(team),
            "timeout": 120,
            "versions": versions(team, partial(_address, team)),
            **_listens(team),
            "built_from": built_from(team),
        },
        "repositories": {
            team.name: {
                "path": Asked(f"the checkout there that is deployed from, as /srv/{team.name}"),
                **build(team),
                **_installs_elsewhere(team),
            }
        },
        "endpoints": endpoints(team),
        "contacts": {role: Asked("who that is, and how to reach them at night") for role in ROLES},
    }


def build(team: Team) -> dict[str, Any]:
    """Return how the repository is built. Pure."""
    keys = {"build": team.value("build", 'the command that builds it, as a list; where nothing is built, ["true"]')}
    return {"install": team.value("install", "what installs the packages"), **keys} if team.of("install") else keys


def _installs_elsewhere(team: Team) -> Mapping[str, Asked]:
    """What is asked where packages would not come and go with the build, which is made in a clone and then moved. Pure."""
    into = team.said("installs_into")
    question = f"what installs the packages into the checkout so that they can be moved; what was found does into {into}. "
    return {"install": Asked(f"{question}Or take the line out: then they stay as they are.")} if into else {}


def versions(team: Team, address: Callable[[Service], str]) -> Mapping[str, Asked] | Asked:
    """Return the question on how each service reports its version at an address. Pure."""
    path = team.said("health") or "/health"
    serving = {each.name: Asked(VERSION_BY_URL % f"{address(each)}{path}") for each in team.serving}
    asked = {each.name: serving.get(each.name, Asked(VERSION)) for each in team.services}
    return asked or Asked("each service, and how it says which commit it runs: docs/managers.md")


def built_from(team: Team) -> Mapping[str, str] | Asked:
    """Return the repository that each service is built from. Pure."""
    return {each.name: team.name for each in team.services} or Asked(f"each service, as {{web: {team.name}}}")


def endpoints(team: Team) -> Mapping[str, Any] | Asked:
    """Return where each service answers. Pure."""
    known = {each.name: f"http://localhost:{port}" for each in team.services if (port := team.port(each))}
    return known or Asked("the address of each service that answers HTTP, as {web: http://localhost:8000}; else {}")


def _address(team: Team, service: Service) -> str:
    return f"http://localhost:{team.port(service) or 8000}"


def _listens(team: Team) -> dict[str, Any]:
    known = {each.name: [f"localhost:{port}"] for each in team.services if (port := team.port(each))}
    return {"listens": known} if known else {}


def _manager(team: Team) -> dict[str, Any]:
    if team.manager == "docker-compose":
        unmanaged = [name for each in team.of("services") for name in each.unmanaged]
        return {
            "manager": Known(team.manager, team.services_from),
            "directory": Asked(f"the folder there that holds {team.services_from}"),
            "files": [team.services_from],
            "project": Asked("the NAME that `docker compose ls` shows"),
            **({"unmanaged": unmanaged} if unmanaged else {}),
        }
    if team.manager == "pm2":
        home = Asked("its PM2_HOME there, as /home/deploy/.pm2")
        return {"manager": Known(team.manager, team.services_from), "home": home}
    return {"manager": Asked("what starts and stops them there: docker-compose, pm2, supervisor or commands, and its keys")}
