"""A pm2 of the tests' own with small services, each of which says when it starts."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CANARY = "canary-of-pm2-4711"
SERVICE = """
const name = process.argv[2];
const stamp = new Date().toISOString();
process.stdout.write(`${stamp} INFO ${name} started\\n  with a second line\\n`);
if (name === "split") process.stderr.write(`${stamp} ERROR apart\\n`);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => { if (!["stubborn", "immortal"].includes(name)) process.exit(0); });
}
if (["crashing", "flapping"].includes(name)) setTimeout(() => process.exit(1), 300);
setInterval(() => {}, 1000);
"""
OPTIONS: dict[str, dict[str, object]] = {
    "web": {},
    "worker": {},
    "slow": {},
    "stubborn": {"kill_timeout": 500},
    "immortal": {"kill_timeout": 60000, "autorestart": False},
    "crashing": {"autorestart": False},
    "flapping": {"max_restarts": 1000},
    "restless": {},
    "split": {},
    "broken": {},
}


@dataclass(frozen=True)
class Pm2:
    root: Path
    command: str

    @property
    def home(self) -> Path:
        return self.root / "h"

    def __call__(self, *words: str) -> str:
        env = {**os.environ, "PM2_HOME": str(self.home), "SECRET_OF_OPERATOR": CANARY}
        done = subprocess.run([self.command, *words], capture_output=True, text=True, env=env, cwd=self.root, check=False)
        return done.stdout

    def entry(self, name: str) -> dict[str, Any]:
        return next(entry for entry in json.loads(self("jlist").splitlines()[-1]) if entry["name"] == name)

    def pids(self, name: str) -> list[int]:
        return [pid for pid in [self.entry(name)["pid"]] if pid]

    def clear(self) -> None:
        alive = [entry for entry in json.loads(self("jlist").splitlines()[-1]) if entry["pid"]]
        for entry in alive:
            if entry["name"] == "immortal":
                with suppress(ProcessLookupError):
                    os.kill(entry["pid"], signal.SIGKILL)
        if alive:
            self("stop", "all")

    def deploy(self, build: str) -> None:
        """Put a new version of the code there, as a deploy or a revert does; what runs is not touched."""
        (self.root / "package.json").write_text(json.dumps({"name": "contract", "version": f"{build}.0.0"}))


@contextmanager
def a_pm2(command: str) -> Iterator[Pm2]:
    root = Path(tempfile.mkdtemp(prefix="rp-"))  # short: the path of a socket has at most 107 bytes
    made = Pm2(root, command)
    (root / "service.js").write_text(SERVICE)
    (root / "broken.js").write_text(SERVICE)
    made.deploy("1")
    apps = [
        {
            "name": name,
            "script": "broken.js" if name == "broken" else "service.js",
            "args": [name],
            "cwd": str(root),
            "env": {"SECRET_OF_SERVICE": CANARY},
            **options,
        }
        for name, options in OPTIONS.items()
    ]
    (root / "ecosystem.json").write_text(json.dumps({"apps": apps}))
    try:
        made("start", "ecosystem.json")
        made.clear()
        (root / "broken.js").unlink()
        yield made
    finally:
        made("kill")
        shutil.rmtree(root, ignore_errors=True)


def pm2_command() -> str | None:
    """The pm2 that the set-up has installed, else the one on the PATH."""
    installed = Path(__file__).parents[2] / ".venv" / "pm2" / "node_modules" / ".bin" / "pm2"
    return str(installed) if installed.exists() else shutil.which("pm2")
