"""Services of a stack under a pm2 of its own, whose daemon supervisord runs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from runbook_lib.config.plan.steps import Name
from runbook_lib.errors import PreconditionError
from runbook_lib.rehearsal.managers import ManagerKeys, filled, merged
from runbook_lib.rehearsal.supervisor import Program, Supervisor
from runbook_lib.rehearsal.workspace import MARK, StackError

START_SECONDS = 15.0
WITH_MORE = "{ ...all, apps: all.apps.map((app) => ({ ...app, env: { ...app.env, ...more[app.name] } })) }"


class UnderPm2(ManagerKeys):
    """Services under pm2."""

    manager: Literal["pm2"]
    ecosystem: str
    """The file that lists them; it reads the stack's variables from the environment."""
    environment: dict[Name, dict[str, str]] = {}
    """Service -> what it has in its environment on top of that."""

    def require(self) -> None:
        """See `ManagerKeys.require`."""
        if not _command():
            raise PreconditionError(
                "There is no pm2, which manages the services of this stack.",
                where="the PATH",
                state="Nothing was started.",
                safe_next="`.ci/setup node` installs it in a checkout, `npm install --global pm2` elsewhere.",
            )

    def with_environment(self, more: Mapping[str, Mapping[str, str]]) -> Self:
        """See `ManagerKeys.with_environment`."""
        return self.model_copy(update={"environment": merged(self.environment, more)})

    def variables(self, root: Path) -> dict[str, str]:
        """See `ManagerKeys.variables`."""
        return {"REHEARSAL_PM2": _command(), "REHEARSAL_PM2_HOME": str(_home(root))}

    def programs(self, environment: Mapping[str, str]) -> list[Program]:
        """See `ManagerKeys.programs`: the daemon in the foreground, so that it ends with the stack."""
        root = Path(environment["REHEARSAL_ROOT"])
        daemon = Path(_command()).resolve().parents[1] / "lib" / "Daemon.js"
        command = ["node", str(daemon)]
        return [Program("pm2", command, root, {"PM2_HOME": str(_home(root))}, whole_group=False, grace=10.0)]

    def start(self, supervised: Supervisor, environment: Mapping[str, str], login: Mapping[str, str]) -> None:
        """See `ManagerKeys.start`."""
        home = _home(supervised.root)
        for folder in (home, home / "logs", home / "pids"):
            folder.mkdir(mode=0o700)
        supervised.start("pm2")
        supervised.wait("pm2", (home / "rpc.sock").exists, START_SECONDS)
        variables = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        variables |= {**environment, **login, MARK: str(supervised.root), "PM2_HOME": str(home)}
        listed = supervised.root / "pm2.config.cjs"
        listed.touch(mode=0o600)
        listed.write_text(self.as_text(Path(environment["REHEARSAL_FOLDER"]), environment))
        command = [_command(), "start", str(listed)]
        done = subprocess.run(command, env=variables, cwd=supervised.root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StackError(
                f"pm2 start failed: {done.stderr.strip()}",
                where=str(home),
                state="the stack is being brought down",
                safe_next="fix what pm2 names and start again",
            )

    def as_text(self, folder: Path, environment: Mapping[str, str]) -> str:
        """Return the ecosystem file with the further environment of its services, as JavaScript. Read-only."""
        file = json.dumps(str((folder / filled(self.ecosystem, environment, "ecosystem")).resolve()))
        more = json.dumps(filled(self.environment, environment, "environment"))
        return f"const all = require({file}), more = {more};\nmodule.exports = {WITH_MORE};\n"

    def lives(self, supervised: Supervisor, name: str) -> bool:
        """See `ManagerKeys.lives`: pm2 starts what ended again."""
        return supervised.running("pm2")

    def log(self, supervised: Supervisor, environment: Mapping[str, str], name: str) -> Path:
        """See `ManagerKeys.log`."""
        return _home(supervised.root) / "logs" / f"{name}-error.log"


def _command() -> str:
    installed = Path(sys.prefix) / "pm2" / "node_modules" / ".bin" / "pm2"
    return str(installed) if installed.exists() else shutil.which("pm2") or ""


def _home(root: Path) -> Path:
    return root / "pm2"
