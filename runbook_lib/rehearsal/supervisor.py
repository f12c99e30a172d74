"""The services of a stack under supervisord, spoken to by RPC over a Unix socket."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Error

from runbook_lib.rehearsal.postgres import command
from runbook_lib.rehearsal.workspace import StackError, kill_marked, until, until_healthy
from runbook_lib.services import supervisor as supervisord

START_SECONDS = 10.0
STOP_SECONDS = 12.0
UNREACHABLE = (OSError, HTTPException, Error)


@dataclass(frozen=True)
class Program:
    """A service: its command, its directory, its environment, the signal that ends it, and whether it comes back."""

    name: str
    command: list[str]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stop_signal: str = "TERM"
    comes_back: bool = False  # whether it is started again when it ends by itself
    whole_group: bool = True  # whether the signal goes to all its processes; else it ends the others itself
    grace: float = 3.0  # seconds to end in; a signal sent to a process that is just being started can be lost


@dataclass(frozen=True)
class Supervisor:
    """The supervisord of the stack in `root`."""

    root: Path

    @property
    def socket(self) -> Path:
        """Return where supervisord listens. Read-only."""
        return self.root / "supervisor.sock"

    def log(self, name: str) -> Path:
        """Return the log of a service. Read-only."""
        return self.root / "logs" / f"{name}.log"

    def call(self, method: str, *arguments: object) -> Any:
        """Ask supervisord. Raises OSError when it does not answer, xmlrpc.client.Fault when it refuses."""
        return supervisord.call(self.socket, method, *arguments)

    def start(self, name: str) -> None:
        """Start a service, without waiting for its health. Changes the stack."""
        self.call("startProcess", name)

    def stop(self, *names: str, seconds: float = STOP_SECONDS) -> None:
        """Stop services and wait until they have ended. Changes the stack.

        Raises StackError when one still lives after `seconds`; supervisord kills it ten seconds after it was asked.
        """
        # Asked to wait itself, supervisord answers up to a second late.
        for name in filter(self.running, names):
            self.call("stopProcess", name, False)
        if not until(lambda: not any(map(self.living, names)), seconds):
            raise StackError(
                f"not ended within {seconds:g} s: {', '.join(filter(self.living, names))}",
                where=str(self.socket),
                state="supervisord was asked to stop it",
                safe_next="look into its log, and stop it again",
            )

    def running(self, name: str) -> bool:
        """Check whether a service was started and lives. Read-only."""
        return self._state(name) == "RUNNING"

    def living(self, name: str) -> bool:
        """Check whether a service has a process, be it a stopping one. Read-only."""
        return self._state(name) in ("STARTING", "RUNNING", "STOPPING")

    def wait(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Return once a service is `ready`. Raises StackError when it has ended, or is not within `seconds`."""
        until_healthy(ready, seconds, name, lambda: self.running(name), self.log(name))

    def _state(self, name: str) -> str:
        return str(self.call("getProcessInfo", name)["statename"])


@contextmanager
def supervisor(root: Path, programs: list[Program], environment: Mapping[str, str]) -> Iterator[Supervisor]:
    """Run supervisord with every program stopped, and end it and all of them when the block ends.

    It also ends when this process dies. Raises StackError when it does not answer.
    """
    supervised = Supervisor(root)
    (root / "logs").mkdir()
    configuration = root / "supervisord.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(_configuration(supervised, programs))
    daemon = [sys.executable, "-P", str(Path(__file__).with_name("daemon.py")), str(os.getpid())]
    log = supervised.log("supervisord")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*daemon, "--configuration", str(configuration)],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until_healthy(lambda: _answers(supervised), START_SECONDS, "supervisord", lambda: process.poll() is None, log)
        yield supervised
    finally:
        _end(supervised, programs, process)


def _answers(supervised: Supervisor) -> bool:
    try:
        return bool(supervised.call("getState")["statename"] == "RUNNING")
    except UNREACHABLE:
        return False


def _end(supervised: Supervisor, programs: list[Program], process: "subprocess.Popen[bytes]") -> None:
    try:
        supervised.stop(*(program.name for program in programs), seconds=max(program.grace for program in programs))
    except (*UNREACHABLE, StackError):
        kill_marked(supervised.root)
    process.kill()
    process.wait()


def _configuration(supervised: Supervisor, programs: list[Program]) -> str:
    root = supervised.root
    user = "user=root" if os.geteuid() == 0 else ""
    return f"""\
[unix_http_server]
file={supervised.socket}
chmod=0700

[supervisord]
nodaemon=true
{user}
directory={root}
logfile=/dev/null
logfile_maxbytes=0
pidfile={root}/supervisord.pid
childlogdir={root}/logs

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

""" + "\n".join(_section(supervised, program) for program in programs)


def _section(supervised: Supervisor, program: Program) -> str:
    environment = ",".join(f'{name}="{value}"' for name, value in program.environment.items())
    settings = {
        "command": shlex.join(program.command),
        "directory": str(program.directory),
        "environment": environment,
        "autostart": "false",
        "autorestart": "true" if program.comes_back else "false",
        "startsecs": "0",
        "stopsignal": program.stop_signal,
        "stopasgroup": str(program.whole_group).lower(),
        "stopwaitsecs": "10",
        "redirect_stderr": "true",
        "stdout_logfile": str(supervised.log(program.name)),
        "stdout_logfile_maxbytes": "0",
    }
    lines = (f"{name}={value.replace('%', '%%')}" for name, value in settings.items() if value)
    return "\n".join([f"[program:{program.name}]", *lines, ""])


def postgres_program(root: Path) -> Program:
    """Return the embedded server as a service; SIGINT is its fast shutdown. Read-only."""
    return Program("postgres", command(root), root, stop_signal="INT", comes_back=True, whole_group=False)
