"""Services of a stack under docker compose, in an engine of its own that supervisord runs."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Self

import yaml

from runbook_lib.config.plan.steps import Name
from runbook_lib.errors import PreconditionError
from runbook_lib.rehearsal.managers import ManagerKeys, filled, merged
from runbook_lib.rehearsal.supervisor import Program, Supervisor
from runbook_lib.rehearsal.workspace import MARK, StackError

START_SECONDS = 30.0
BASE = "rehearsal/node"
SET_UP = "`.ci/setup compose` installs it in a checkout, as root on Debian; elsewhere the system's package manager does."


class UnderCompose(ManagerKeys):
    """Services under docker compose, in images made from the machine's own Node.js: no registry is asked."""

    manager: Literal["docker-compose"]
    project: str
    """The compose file; it is copied, so its own paths are absolute, as ${REHEARSAL_ROOT}/shop."""
    more: list[str] = []
    """Further compose files, which the builds leave."""
    environment: dict[Name, dict[str, str]] = {}
    """Service -> what it has in its environment on top of that."""

    def require(self) -> None:
        """See `ManagerKeys.require`."""
        if os.geteuid() != 0:
            raise PreconditionError(
                "This stack runs a Docker engine of its own, which only root may.",
                where="the current user",
                state="Nothing was started.",
                safe_next="Run the same command as root, or rehearse another stack.",
            )
        missing = [name for name in ("dockerd", "docker") if not shutil.which(name)]
        if missing or not _compose():
            raise PreconditionError(
                f"There is no {', '.join(missing) or 'docker compose'}, which manages the services of this stack.",
                where="the PATH",
                state="Nothing was started.",
                safe_next=SET_UP,
            )

    def with_environment(self, more: Mapping[str, Mapping[str, str]]) -> Self:
        """See `ManagerKeys.with_environment`."""
        return self.model_copy(update={"environment": merged(self.environment, more)})

    def variables(self, root: Path) -> dict[str, str]:
        """See `ManagerKeys.variables`."""
        return {"REHEARSAL_DOCKER_HOST": f"unix://{_socket(root)}", "REHEARSAL_COMPOSE": _compose()}

    def programs(self, environment: Mapping[str, str]) -> list[Program]:
        """See `ManagerKeys.programs`: the engine, which ends its containers as it ends."""
        root = Path(environment["REHEARSAL_ROOT"])
        command = ["dockerd", "--host", environment["REHEARSAL_DOCKER_HOST"], "--data-root", str(root / "docker")]
        command += ["--exec-root", str(root / "x"), "--pidfile", str(root / "docker.pid"), "--shutdown-timeout", "5"]
        command += ["--bridge=none", "--iptables=false"]
        place = {"TMPDIR": str(root)}  # where containerd writes down its stacks when it ends late
        return [Program("dockerd", command, root, place, whole_group=False, grace=15.0)]

    def start(self, supervised: Supervisor, environment: Mapping[str, str], login: Mapping[str, str]) -> None:
        """See `ManagerKeys.start`."""
        root = supervised.root
        supervised.start("dockerd")
        supervised.wait("dockerd", lambda: _answers(environment), START_SECONDS)
        _import_base(environment)
        folder = root / "compose"
        folder.mkdir(mode=0o700)
        project = Path(environment["REHEARSAL_FOLDER"]) / filled(self.project, environment, "project")
        (folder / "compose.yaml").touch(mode=0o600)
        (folder / "compose.yaml").write_text(self.as_text(project, environment))
        variables = {**environment, **login, MARK: str(root)}
        (folder / ".env").touch(mode=0o600)
        (folder / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in variables.items()))
        files = ["compose.yaml", *filled(self.more, environment, "compose")]
        named = [word for file in files for word in ("--file", file)]
        up = [environment["REHEARSAL_COMPOSE"], "--project-name", "rehearsal", *named, "up", "--detach", "--build"]
        _done(up, environment, folder)

    def as_text(self, project: Path, environment: Mapping[str, str]) -> str:
        """Return the compose file with the further environment of its services: where the target has it, too. Read-only."""
        more = filled(self.environment, environment, "environment")
        if not more:
            return project.read_text()
        described = yaml.safe_load(project.read_text())
        for name, variables in more.items():
            own = described["services"][name].get("environment") or {}
            listed = dict(line.partition("=")[::2] for line in own) if isinstance(own, list) else own
            described["services"][name]["environment"] = {**listed, **variables}
        return yaml.safe_dump(described, sort_keys=False)

    def lives(self, supervised: Supervisor, name: str) -> bool:
        """See `ManagerKeys.lives`: the engine starts what ended again."""
        return supervised.running("dockerd")

    def log(self, supervised: Supervisor, environment: Mapping[str, str], name: str) -> Path:
        """See `ManagerKeys.log`: what the engine has kept of the containers."""
        kept = supervised.log(name)
        asked = [environment["REHEARSAL_COMPOSE"], "--project-name", "rehearsal", "logs", "--no-color", name]
        variables = {**os.environ, "DOCKER_HOST": environment["REHEARSAL_DOCKER_HOST"]}
        with kept.open("wb") as file:
            subprocess.run(asked, env=variables, stdout=file, stderr=subprocess.STDOUT, check=False)
        return kept


def _compose() -> str:
    plugin = Path(sys.prefix) / "compose" / "compose" / "docker-compose"
    return str(plugin) if os.access(plugin, os.X_OK) else shutil.which("docker-compose") or ""


def _socket(root: Path) -> Path:
    return root / "docker.sock"


def _answers(environment: Mapping[str, str]) -> bool:
    asked = ["docker", "--host", environment["REHEARSAL_DOCKER_HOST"], "version"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _import_base(environment: Mapping[str, str]) -> None:
    """Make the base image of the machine's own Node.js and of the libraries that it is linked with."""
    node = shutil.which("node")
    if node is None:
        raise StackError("there is no node", where="the PATH", state="nothing was built", safe_next="install Node.js")
    with tempfile.TemporaryDirectory(dir=environment["REHEARSAL_ROOT"]) as made:
        rootfs = Path(made)
        for source, place in [(node, "/usr/bin/node"), *((path, path) for path in _libraries(node))]:
            target = rootfs / place.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o755)
        (rootfs / "tmp").mkdir()
        tar = subprocess.Popen(["tar", "--create", "--directory", made, "."], stdout=subprocess.PIPE)
        change = "ENV PATH=/usr/bin"
        _done(
            ["docker", "--host", environment["REHEARSAL_DOCKER_HOST"], "import", "--change", change, "-", BASE],
            environment,
            rootfs,
            tar,
        )


def _libraries(program: str) -> Iterator[str]:
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for line in linked.splitlines():
        if found := re.search(r"(/\S+) \(0x", line):
            yield found[1]


def _done(
    command: list[str], environment: Mapping[str, str], folder: Path, tar: "subprocess.Popen[bytes] | None" = None
) -> None:
    variables = {**os.environ, "DOCKER_HOST": environment["REHEARSAL_DOCKER_HOST"]}
    done = subprocess.run(
        command,
        cwd=folder,
        env=variables,
        stdin=tar.stdout if tar else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackError(
            f"{' '.join(command[:1])} failed: {done.stderr.strip()[-2000:]}",
            where=str(folder),
            state="the stack is being brought down",
            safe_next="fix what it names and start again",
        )
