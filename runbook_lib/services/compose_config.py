"""What docker compose would make of a service now, compared with the containers that it made before. Pure."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.results import Found, Status

Model = Mapping[str, Any]  # of all services, as `config` prints it
PIN = "runbook-pin-"  # how the file begins that names a pinned image
_OF_EVERY_ENGINE = ("bridge", "host", "none")  # networks
_UNSET = re.compile(r'The \\?"?(\w+)\\?"? variable is not set')
_OF_THE_ENGINE = re.compile(r"PATH|HOSTNAME|(?i:https?|ftp|no|all)_proxy", re.IGNORECASE)  # set where no file does


@dataclass(frozen=True)
class Made:
    """How a container was made, by its labels."""

    hash: str
    version: str  # of compose
    directory: str
    files: str
    environment_files: str


@dataclass(frozen=True)
class Now:
    """What a service would be made of now, and by which compose."""

    version: str
    directory: Path
    files: Collection[str]
    environment_files: Collection[str]
    counts_build: bool  # whether image and build arguments are part of the hash
    names_containers: bool  # whether the hash depends on containers of other services


def unset(said: str) -> set[str]:
    """Return the variables that compose says are not set. Pure."""
    return set(_UNSET.findall(said))


def with_containers(model: Model, containers: Mapping[str, str]) -> dict[str, Any]:
    """The model with the containers of services in place of their names, as `up` puts them in before it hashes. Pure."""
    services = {}
    for name, service in model["services"].items():
        shared = {
            key: service[key].removeprefix("service:") for key in ("network_mode", "ipc", "pid") if _of_service(service, key)
        }
        services[name] = {**service, **{key: f"container:{containers.get(other, '')}" for key, other in shared.items()}}
    return {**model, "services": services}


def trial(containers: Mapping[str, tuple[str, Collection[str]]]) -> dict[str, Any]:
    """Return a model of containers that have the images and networks of others, and nothing else of them. Pure."""
    services: dict[str, Any] = {}
    for name, (image, networks) in containers.items():
        own = [network for network in networks if network not in _OF_EVERY_ENGINE]
        mode = next((network for network in networks if network in _OF_EVERY_ENGINE), "none")
        services[name] = {"image": image, "command": ["none"], **({"networks": own} if own else {"network_mode": mode})}
    used = {
        network: {"external": True, "name": network}
        for service in services.values()
        for network in service.get("networks", ())
    }
    return {"version": "2.4", "services": services, **({"networks": used} if used else {})}


def _of_service(service: Mapping[str, Any], key: str) -> bool:
    return str(service.get(key, "")).startswith("service:")


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that a service's part of a model sets. Pure."""
    found = service.get("environment") or {}
    return {key: str(value).replace("$$", "$") for key, value in found.items() if value is not None}


def differing(now: Mapping[str, str], before: Mapping[str, str], of_image: Mapping[str, str]) -> list[str]:
    """The variables that a container has and would not have now, or the other way round, or of another value. Pure."""
    expected = {**of_image, **now}
    keys = {*expected, *before} - {key for key in before if key not in expected and _OF_THE_ENGINE.fullmatch(key)}
    return sorted(key for key in keys if expected.get(key) != before.get(key))


def missing(keys: Collection[str], raw: Mapping[str, str] | None, not_set: Collection[str]) -> dict[str, list[str]]:
    """Of these variables those whose text in the files takes in a variable that is not set here: which. Pure.

    Where the texts are not known, each may take in any.
    """
    if raw is None:
        return {key: sorted(not_set) for key in keys} if not_set else {}
    found = {key: [name for name in sorted(not_set) if re.search(rf"\$\{{?{name}\b", raw.get(key, ""))] for key in keys}
    return {key: names for key, names in found.items() if names}


def verdict(
    made: Made, now: Now, keys: Collection[str], lost: Mapping[str, Collection[str]], *, code_changed: bool
) -> Found:
    """Check whether a container whose hash differs would come up again as it is. Pure.

    Args:
        made: How it was made.
        now: What would be made.
        keys: The variables in which the two differ.
        lost: Of these, those that take in a variable that is not set here.
        code_changed: Whether the run has changed code or builds, and with them, it may be, files and image.
    """
    named = ", ".join(f"{key} ({', '.join(lost[key])} is not set here)" if key in lost else key for key in keys)
    files = _files(made, now)
    if code_changed:
        if lost:
            return Status.FAIL, f"its environment differs: {named}"
        return Status.PASS, "differs from before as the code does"
    if keys:
        return Status.FAIL, "; ".join(filter(None, [f"its environment differs: {named}", files]))
    if files:
        return Status.FAIL, files
    if not made.hash:
        return Status.UNKNOWN, "no hash of its configuration is recorded; its environment is the same"
    if made.version != now.version:
        return Status.UNKNOWN, (
            f"it was made by compose {made.version or 'of an unknown version'}, whose hash {now.version} may not give; "
            "its environment and files are the same"
        )
    if now.counts_build:
        return Status.UNKNOWN, (
            f"docker-compose {now.version} counts image and build arguments too; its environment and files are the same"
        )
    if now.names_containers:
        return Status.UNKNOWN, "its hash depends on containers of other services; its environment and files are the same"
    return Status.FAIL, "a setting other than environment and files differs"


def _files(made: Made, now: Now) -> str:
    """Return which files the container was made from, where the target names others."""
    pairs = (
        ("files", made.files, now.files),
        ("env_files", made.environment_files, now.environment_files),
    )
    said = []
    for key, label, named in pairs:
        before = [file for file in label.split(",") if file and not Path(file).name.startswith(PIN)]
        if [str(Path(made.directory, file)) for file in before] != [str(now.directory / file) for file in named]:
            said.append(
                f"it was made with {key} {', '.join(before) or 'none'}, and the target names {', '.join(named) or 'none'}"
            )
    return "; ".join(said)


def network_found(key: str, name: str, labels: Mapping[str, str] | None, *, external: bool, compared: bool) -> Found:
    """Check whether `up` can use a network as it is found; `labels` is None where there is none. Pure."""
    if labels is None:
        return (Status.FAIL, f"network {name} is external and does not exist") if external else (Status.PASS, "it is made")
    label = labels.get("com.docker.compose.network", "")
    if external or label == key or not compared:
        return Status.PASS, "it is used"
    return Status.FAIL, (
        f"network {name} was found with label com.docker.compose.network {label!r} where compose expects {key!r}, at which "
        "`up` ends (https://github.com/docker/compose/issues/10797). Recreate it before any downtime, or say in the file: "
        f"`networks: {{{key}: {{external: true, name: {name}}}}}`"
    )
