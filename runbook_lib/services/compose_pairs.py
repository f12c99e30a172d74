"""Which versions of docker compose cannot recreate a container on which versions of the engine."""

import re
from dataclasses import dataclass

Version = tuple[int, ...]
ANY, NEWEST = (0,), (10**6,)


@dataclass(frozen=True)
class Pair:
    """Versions from the first up to, and without, the second; and what a recreate ends with."""

    compose: tuple[Version, Version]
    engine: tuple[Version, Version]
    several_networks: bool  # whether it fails only for a service on several networks
    error: str
    remedy: str
    source: str


PAIRS = (
    Pair(
        compose=((1,), (2,)),
        engine=((25,), NEWEST),
        several_networks=False,
        error="KeyError: 'ContainerConfig'",
        remedy="install the compose plugin 2 and name it in the target: `compose: [docker, compose]`",
        source="https://github.com/docker/compose/issues/12509",
    ),
    Pair(
        compose=((2,), (2, 24)),
        engine=((29,), NEWEST),
        several_networks=False,
        error="client version … is too old. Minimum supported API version is 1.44",
        remedy="update the compose plugin",
        source="https://github.com/docker/compose/issues/13389",
    ),
    Pair(
        compose=((5,), NEWEST),
        engine=(ANY, (25,)),
        several_networks=True,
        error="Container cannot be connected to network endpoints",
        remedy="use a compose plugin 2, or update the engine",
        source="https://github.com/moghtech/komodo/issues/1305",
    ),
)
LABELS_COMPARED = (2, 19)  # from here on `up` ends at a network with another label; before, it warns at most


def version(text: str) -> Version:
    """Return the numbers that a version begins with, none where it begins with no number. Pure."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(map(int, match[1].split("."))) if match else ()


def failing(compose: Version, engine: Version) -> Pair | None:
    """Return the pair by which a container cannot be recreated, None where none is known. Pure."""
    fits = (p for p in PAIRS if p.compose[0] <= compose < p.compose[1] and p.engine[0] <= engine < p.engine[1])
    return next(fits, None)
