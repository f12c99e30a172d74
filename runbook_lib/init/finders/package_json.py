"""package.json: how its packages are installed, how it is built and, where nothing else says it, started."""

import json
from collections.abc import Iterator
from pathlib import Path

from runbook_lib.init.found import Folder, Found, Service, within

RANK = 4
LOCKS = {
    "pnpm-lock.yaml": ["pnpm", "install", "--frozen-lockfile"],
    "yarn.lock": ["yarn", "install", "--frozen-lockfile"],
    "package-lock.json": ["npm", "ci"],
}
WITHOUT_LOCK = ["npm", "install"]


def find(folder: Folder) -> Iterator[Found]:
    """Install, build and start of Node.js packages. Read-only."""
    for where, text in folder.files("package.json"):
        try:
            package = json.loads(text)
        except ValueError:
            continue
        place, scripts = folder.path / Path(where).parent, package.get("scripts") or {}
        install = next((command for lock, command in LOCKS.items() if (place / lock).exists()), WITHOUT_LOCK)
        started = [Service(str(package.get("name") or place.name).rpartition("/")[2], "npm start")]
        yield Found(
            where,
            services=started if "start" in scripts else (),
            install=within(where, install),
            build=within(where, [install[0], "run", "build"]) if "build" in scripts else (),
        )
