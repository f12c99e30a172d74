"""A Docker engine of the tests' own, and a compose project in it: no registry, no network, one tiny image."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .places import ROOT
from .waiting import until

# What a service does is in its command; every one says that it started, and which build of the image it is of.
SERVICE = """
stamp() { date -u +%Y-%m-%dT%H:%M:%SZ; }
echo "$(stamp) INFO $1 started in build $(cat /build)"
echo "  with a second line"
case $1 in
  stubborn|immortal) trap '' TERM; while :; do sleep 1; done ;;
  crashing|flapping) sleep 0.3; exit 1 ;;
esac
trap 'exit 0' TERM
while :; do sleep 1000 & wait $!; done
"""
DOCKERFILE = """
FROM contract/base
ARG REVISION
LABEL org.opencontainers.image.revision=$REVISION
COPY service.sh /service.sh
RUN_NOTHING
"""
NAMES = ["web", "worker", "slow", "stubborn", "immortal", "crashing", "flapping", "restless", "broken", "pinned"]


@dataclass(eq=False)
class Docker:
    root: Path
    data: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        return f"unix://{self.root}/s"

    @property
    def project(self) -> Path:
        return self.root / "project"

    def __call__(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(["docker", "--host", self.host, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def pids(self, name: str) -> list[int]:
        ids = self("ps", "--quiet", "--filter", f"label=com.docker.compose.service={name}").split()
        told = self("inspect", "--format", "{{.State.Pid}}", *ids).split() if ids else []
        return [int(pid) for pid in told if pid != "0"]  # which stands for none, and for a whole group where it is killed

    def clear(self) -> None:
        if ids := self("ps", "--all", "--quiet").split():
            self("rm", "--force", *ids)

    def boot(self) -> None:
        for driver in ("overlay2", "vfs"):
            if self._booted(driver):
                return
        raise AssertionError((self.root / "log").read_text()[-2000:])

    def end(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(60)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(60)

    def deploy(self, build: str) -> None:
        """Put a new version of the code there, as a deploy or a revert does; what runs is not touched."""
        (self.project / "build").write_text(build)
        (self.project / ".env").write_text(f"REVISION={revision(build)}\n")

    def build(self, build: str, tag: str) -> None:
        """Make an image of a build, as a pipeline elsewhere would."""
        self.deploy(build)
        self("build", "--tag", tag, "--build-arg", f"REVISION={revision(build)}", str(self.project))

    def configuration(self, plugin: Path | None) -> Path:
        """The folder of a command line of docker's with compose as a plugin of it, or without one."""
        made = self.root / ("with-compose" if plugin else "without-compose")
        (made / "cli-plugins").mkdir(parents=True, exist_ok=True)
        if plugin and not (link := made / "cli-plugins" / "docker-compose").exists():
            link.symlink_to(plugin)
        return made

    def _booted(self, driver: str) -> bool:
        (self.root / "s").unlink(missing_ok=True)
        (self.root / "pid").unlink(missing_ok=True)
        command = ["dockerd", "--host", self.host, "--data-root", str(self.data), "--exec-root", str(self.root / "x")]
        command += ["--pidfile", str(self.root / "pid"), "--storage-driver", driver, "--bridge=none", "--iptables=false"]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        started = self.process
        until(
            lambda: started.poll() is not None or self("version", "--format", "{{.Server.Version}}", check=False),
            "the engine answers",
            60,
        )
        return started.poll() is None


def revision(build: str) -> str:
    return (build * 40)[:40]


@contextmanager
def an_engine() -> Iterator[Docker]:
    """An engine with the base image in it."""
    root = Path(tempfile.mkdtemp(prefix="rd-"))  # short: the path of a socket has at most 107 bytes
    engine = Docker(root, root / "data")
    try:
        engine.boot()
        _import_base(engine)
        engine.project.mkdir()
        _write_project(engine)
        yield engine
    finally:
        try:
            if engine.process and engine.process.poll() is None:
                engine.clear()
        finally:
            engine.end()
            _unmount_below(root)
            shutil.rmtree(root, ignore_errors=True)


def _unmount_below(root: Path) -> None:
    """Take off what an engine leaves mounted when it ends, as the network namespace of the host."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        where = line.split()[1]
        if where.startswith(f"{root}/"):
            subprocess.run(["umount", where], check=True)


def _import_base(engine: Docker) -> None:
    rootfs = engine.root / "rootfs"
    (rootfs / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, rootfs / "bin" / "busybox")
    for name in ("sh", "sleep", "date", "cat"):
        (rootfs / "bin" / name).symlink_to("busybox")
    tar = engine.root / "rootfs.tar"
    subprocess.run(["tar", "-C", str(rootfs), "-cf", str(tar), "."], check=True)
    engine("import", str(tar), "contract/base")


def _write_project(engine: Docker) -> None:
    root = engine.project
    (root / "service.sh").write_text(SERVICE)
    (root / "Dockerfile").write_text(DOCKERFILE.replace("RUN_NOTHING", "COPY build /build"))
    engine.deploy("1")
    services = {name: _service(name) for name in NAMES}
    (root / "docker-compose.yml").write_text(json.dumps({"version": "2.4", "services": services, "volumes": {"kept": {}}}))


def _service(name: str) -> dict[str, object]:
    built = {"build": {"context": ".", "args": {"REVISION": "${REVISION}"}}}
    policy = {"restless": "always", "flapping": "always"}
    grace = {"stubborn": "1s", "immortal": "60s"}
    return {
        **({"image": "contract/pinned:newest"} if name == "pinned" else built),
        "command": ["/no/such/program"] if name == "broken" else ["/bin/sh", "/service.sh", name],
        "network_mode": "none",
        "restart": policy.get(name, "no"),
        "stop_grace_period": grace.get(name, "5s"),
        "volumes": ["kept:/kept"],
        "environment": {"SECRET_OF_SERVICE": "canary-of-docker"},
    }


def compose_plugin() -> Path | None:
    """The newer compose, where the set-up has put it."""
    path = ROOT / ".venv" / "compose" / "compose" / "docker-compose"
    return path if os.access(path, os.X_OK) else None
