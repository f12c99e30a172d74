"""The stack of a team's rehearsals and the target of that, as far as its repository says them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from runbook_lib.init import production
from runbook_lib.init.commented import Asked
from runbook_lib.init.found import Service
from runbook_lib.init.team import Team

TARGET_HEAD = """\
# Where a rehearsal of {name} runs: on the stack that parameters/stack.yaml describes. Written by `runbook init`.
# The stack sets the value of ${{NAME}}. You must fill in each null with `decide:`.
"""
STACK_HEAD = """\
# What a rehearsal of {name} brings up, and tears down. Written by `runbook init`.
# The environment has RELEASED, the commit from before the release: export RELEASED=$(git merge-base origin/main HEAD)
# You must fill in each null with `decide:`; parameters/stack.example.yaml explains all keys.
"""
RELEASED = "RELEASED"  # the environment variable that names the commit before the release
REHEARSES = "whoever rehearses"


def target(team: Team) -> dict[str, Any]:
    """Return the keys of the target. Pure."""
    return {
        "name": f"{team.name}-rehearsal",
        "environment": "rehearsal",
        "database": {
            "service": "rehearsal",
            "application_role": "${REHEARSAL_APPLICATION_ROLE}",
            "tools": "${REHEARSAL_PG_BIN}",
        },
        "backups": {"directory": "${REHEARSAL_ROOT}/backups", "pattern": "before_*.dump", "oldest_hours": 1},
        "services": {
            **_manager(team),
            "timeout": 60,
            "versions": production.versions(team, _url),
            "built_from": production.built_from(team),
        },
        "repositories": {team.name: {"path": f"${{REHEARSAL_ROOT}}/{team.name}", **production.build(team)}},
        "endpoints": {each.name: _url(each) for each in team.serving},
        "contacts": dict.fromkeys(production.ROLES, REHEARSES),
    }


def stack(team: Team) -> dict[str, Any]:
    """Return the keys of the stack's file. Pure."""
    return {
        "about": f"{team.name} on a database of its own",
        "target": "rehearsal.yaml",
        "ports": [_port(each) for each in team.serving],
        "repositories": {team.name: {"clone": ".."}},
        "database": _database_of(team),
        "services": _services(team),
        "health": {each.name: _health(team, each) for each in team.services} or Asked("each service, and a {url} of it"),
        "expect": {"type": "full", "option": "D"},
    }


def _database_of(team: Team) -> dict[str, Any]:
    """Return the database: the state of before, a backup of that, and the release's migrations. Pure."""
    if not team.migrations:
        return {
            "fill": Asked("what was there before the release, as [{dump: before.sql}, {backup: before}]"),
            "release": Asked("what the release does to it: [{run: [COMMAND], directory: FOLDER}], as in stack.example.yaml"),
        }
    folder, command = team.migrations.directory, shlex.join(team.migrations.command)
    folder = f"':(glob){folder}/**'" if "*" in folder else folder
    there = {"directory": f"${{REHEARSAL_ROOT}}/{team.name}", "environment": _database(team)}
    before = f"git restore --source=${{{RELEASED}}} -- {folder} && {command} && git restore -- {folder}"
    return {
        "fill": [{"run": ["sh", "-c", before], **there}, {"backup": "before"}],
        "release": [{"run": [*team.migrations.command], **there}],
    }


def _services(team: Team) -> dict[str, Any]:
    environments = {each.name: _environment(team, each) for each in team.services}
    if team.manager == "pm2":
        file = f"${{REHEARSAL_ROOT}}/{team.name}/{team.services_from}"
        return {"manager": "pm2", "ecosystem": file, "environment": environments}
    if team.manager == "docker-compose":
        asked = Asked("a compose file whose paths begin with ${REHEARSAL_ROOT}: parameters/stack.example.yaml")
        return {"manager": "docker-compose", "project": asked, "environment": environments}
    return {"manager": "supervisor", "run": {each.name: _run(team, each) for each in team.services} or Asked("each service")}


def _run(team: Team, service: Service) -> dict[str, Any]:
    line = re.sub(r"\$\{?PORT(:-\d+)?\}?", f"${{REHEARSAL_{_variable(service)}_PORT}}", service.command)
    is_plain = not re.search(r"[|&;<>$`\"'*?~]", line.replace("${REHEARSAL_", ""))
    command = shlex.split(line) if is_plain else ["sh", "-c", f"exec {line}"]
    directory = f"${{REHEARSAL_ROOT}}/{team.name}"
    return {
        "command": command if line else Asked("the command that starts it, as a list"),
        "directory": directory,
        "environment": _environment(team, service),
    }


def _environment(team: Team, service: Service) -> dict[str, Any]:
    port = {"PORT": f"${{REHEARSAL_{_variable(service)}_PORT}}"} if service in team.serving else {}
    known = {**port, **_database(team)}
    others = [name for each in team.of("variables") for name in each.variables if name not in (*known, "PORT")]
    return {
        **known,
        **{name: Asked("its value in a rehearsal; no secret, but a reference to one: ${NAME}") for name in others},
    }


def _database(team: Team) -> Mapping[str, str]:
    """Return the variables by which a program finds the database. Pure."""
    login = {"PGSERVICEFILE": "${PGSERVICEFILE}", "PGSERVICE": "rehearsal_app"}
    variable, scheme = team.said("database_variable"), team.said("scheme")
    if not variable:
        return login
    if "+" in scheme:  # a driver's, which finds the database by libpq's variables where its address has nothing else
        return {variable: f"{scheme}://", **login}
    return {variable: "${REHEARSAL_DATABASE_URL}"}


def _health(team: Team, service: Service) -> Any:
    path = team.said("health")
    if service in team.serving and path:
        return {"url": f"{_url(service)}{path}"}
    return Asked("how it shows that it is up: {url: ADDRESS}, or {query: SQL that finds a row then}")


def _manager(team: Team) -> dict[str, Any]:
    if team.manager == "pm2":
        return {"manager": "pm2", "home": "${REHEARSAL_PM2_HOME}", "command": ["${REHEARSAL_PM2}"]}
    if team.manager == "docker-compose":
        return {
            "manager": "docker-compose",
            "directory": "${REHEARSAL_ROOT}/compose",
            "project": "rehearsal",
            "files": ["compose.yaml"],
            "compose": ["${REHEARSAL_COMPOSE}"],
            "host": "${REHEARSAL_DOCKER_HOST}",
        }
    return {"manager": "supervisor", "socket": "${REHEARSAL_ROOT}/supervisor.sock", "unmanaged": ["postgres"]}


def _url(service: Service) -> str:
    return f"${{REHEARSAL_{_variable(service)}_URL}}"


def _variable(service: Service) -> str:
    return _port(service).upper()


def _port(service: Service) -> str:
    """Return what the stack calls its port. Pure."""
    return re.sub(r"\W", "_", service.name)
