"""Services under supervisord."""

import socket
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Literal
from xmlrpc.client import Error, Fault, ServerProxy, Transport

from runbook_lib.config.target import ServicesTarget
from runbook_lib.errors import AdapterError
from runbook_lib.services import (
    NOTHING,
    Look,
    Marks,
    Restart,
    Restore,
    log_files,
    no_list,
    no_log,
    no_time,
    no_version,
    not_started,
    not_stopped,
    refused,
    unknown_service,
    unreachable,
)
from runbook_lib.system.processes import Processes, typed, until

CALL_SECONDS = 10.0


def call(path: Path, method: str, *arguments: Any) -> Any:
    """Return what supervisord answers to one call, on a connection of its own.

    Raises:
        OSError: The socket is missing, refuses, or is silent for too long.
        http.client.HTTPException: What answers speaks no HTTP.
        xmlrpc.client.Fault: supervisord refuses what is asked.
        xmlrpc.client.Error: What answers is no supervisord.
    """
    with ServerProxy("http://localhost", transport=_UnixTransport(path), allow_none=True) as server:
        return getattr(server.supervisor, method)(*arguments)


class _UnixTransport(Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> HTTPConnection:
        return _UnixConnection(self._path)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


INTERVAL = 0.05  # seconds between two questions
STOPPED = {"STOPPED", "EXITED", "FATAL"}
SETTLED = STOPPED | {"RUNNING"}
BAD_NAME, ALREADY_STARTED, NOT_RUNNING = 10, 60, 70  # faults of its RPC interface


class SupervisorTarget(ServicesTarget):
    """Services under supervisord, reached through its socket."""

    manager: Literal["supervisor"]
    socket: str
    """The socket of supervisord."""

    pins_are_reported_by_manager = False

    def tells_versions(self) -> bool:
        """No: supervisord knows commands, not versions. Pure."""
        return False


class SupervisorServices:
    """Services of the supervisord behind `socket`, each the process of the same name."""

    Keys = SupervisorTarget

    def __init__(self, described: SupervisorTarget, processes: Processes) -> None:
        self._socket = Path(described.socket)
        self._timeout = described.timeout

    def all_running(self) -> set[str]:
        """See `Services.all_running`."""
        try:
            infos = call(self._socket, "getAllProcessInfo")
        except (OSError, HTTPException, Error) as error:
            raise no_list(str(self._socket), f"{type(error).__name__}: {error}") from None
        return {info["name"] for info in infos if info["statename"] not in STOPPED}

    def is_running(self, name: str) -> bool:
        """See `Services.is_running`."""
        return self._looked_at_twice(name)["statename"] not in STOPPED

    def running_of(self, names: Collection[str]) -> set[str]:
        """See `Services.running_of`."""
        return {name for name in names if self.is_running(name)}

    def up(self, names: Collection[str]) -> set[str]:
        """See `Services.up`; how long one must run to count is supervisord's own `startsecs`."""
        until(lambda: "STARTING" not in map(self._state, names), self._timeout, INTERVAL)
        return {name for name in names if self._state(name) == "RUNNING"}

    def version(self, name: str) -> str:
        """See `Services.version`; supervisord never reports one."""
        raise no_version(name, str(self._socket), "supervisord knows commands, not versions")

    def stop(self, *names: str) -> None:
        """See `Services.stop`."""
        going_on = self.running_of(names)

        def all_stopped() -> bool:
            nonlocal going_on
            going_on = {name for name in names if not self._asked_to_stop(name)}
            return not going_on

        if not until(all_stopped, self._timeout, INTERVAL):
            states = ", ".join(map(self._state, sorted(going_on)))
            raise not_stopped(", ".join(sorted(going_on)), str(self._socket), self._timeout, states)

    def stop_by_hand(self, names: Sequence[str]) -> list[str]:
        """See `Services.stop_by_hand`: its command line asks by the same socket as we do."""
        return [typed([*self._control, "stop", *names])]

    def start_by_hand(self, names: Sequence[str], restore: Restore = NOTHING) -> list[str]:
        """See `Services.start_by_hand`: its command line asks by the same socket as we do."""
        return [typed([*self._control, "start", *names])]

    @property
    def _control(self) -> list[str]:
        return ["supervisorctl", f"--serverurl=unix://{self._socket}"]

    def looks(self, restart: Restart) -> list[Look]:
        """See `Services.looks`: none."""
        return []

    def to_restore(self, names: Collection[str]) -> Restore:
        """See `Services.to_restore`: supervisord starts what its configuration says."""
        return {}

    def start(self, *names: str, restore: Restore = NOTHING) -> None:
        """See `Services.start`; one that is being stopped is waited for first."""
        for name in names:
            self._asked_to_start(name)
        for name in names:
            self._require_running(name)

    def log_marks(self, names: Collection[str]) -> Marks:
        """See `Services.log_marks`."""
        return {name: log_files.mark(self._log_files(self._info(name))) for name in names}

    def logs(self, name: str, since: datetime | None, mark: Mapping[str, Any] = NOTHING) -> list[str]:
        """See `Services.logs`; the error log, where there is one apart, follows the other."""
        info = self._info(name)
        if not info["stdout_logfile"]:
            raise no_log(name, str(self._socket), "supervisord keeps none")
        if not info["start"]:
            return []
        try:
            return log_files.lines(self._log_files(info), since, mark)
        except log_files.UnplacedError as error:
            raise no_time(name, str(error), "Have the service begin each line with the time.") from None
        except OSError as error:
            raise no_log(name, str(error.filename), error.strerror or str(error)) from None

    def _log_files(self, info: Mapping[str, Any]) -> list[list[Path]]:
        return [_rotated(Path(info[key])) for key in ("stdout_logfile", "stderr_logfile") if info[key]]

    def _asked_to_stop(self, name: str) -> bool:
        """Check whether it is stopped; else it is asked to be, unless that is under way."""
        state = self._state(name)
        if state not in STOPPED | {"STOPPING"}:
            self._ask(name, "stopProcess", name, False, fine=NOT_RUNNING)
        return state in STOPPED

    def _asked_to_start(self, name: str) -> None:
        until(lambda: self._state(name) != "STOPPING", self._timeout, INTERVAL)
        if not self.is_running(name):
            self._ask(name, "startProcess", name, False, fine=ALREADY_STARTED)

    def _require_running(self, name: str) -> None:
        if not until(lambda: self._state(name) in SETTLED, self._timeout, INTERVAL):
            info = self._info(name)
            raise AdapterError(
                f"{name} neither runs nor is stopped after {self._timeout:g} s.",
                where=str(self._socket),
                state=f"supervisord says {info['statename']} {info['spawnerr']}".strip() + ", and keeps trying.",
                safe_next="Read its log; stop it, fix the cause, and start it again.",
            )
        info = self._looked_at_twice(name)
        if info["statename"] != "RUNNING":
            reason = info["spawnerr"] or f"exit status {info['exitstatus']}"
            raise not_started(name, str(self._socket), f"{info['statename']}, {reason}")

    def _state(self, name: str) -> str:
        return str(self._looked_at_twice(name)["statename"])

    def _looked_at_twice(self, name: str) -> dict[str, Any]:
        # supervisord may restart an exited process between two questions, never after the second
        info = self._info(name)
        return self._info(name) if info["statename"] == "EXITED" else info

    def _info(self, name: str) -> dict[str, Any]:
        info: dict[str, Any] = self._ask(name, "getProcessInfo", name)
        return info

    def _ask(self, name: str, method: str, *arguments: Any, fine: int | None = None) -> Any:
        try:
            return call(self._socket, method, *arguments)
        except Fault as fault:
            if fault.faultCode == fine:
                return None
            if fault.faultCode == BAD_NAME:
                raise unknown_service(name, str(self._socket)) from None
            raise refused(name, str(self._socket), f"{method}: {fault.faultString}") from None
        except (OSError, HTTPException, Error) as error:
            raise unreachable(name, str(self._socket), f"{type(error).__name__}: {error}") from None


def _rotated(path: Path) -> list[Path]:
    """Return a log and its rotated files, oldest first."""
    files = [path]
    while (older := path.with_name(f"{path.name}.{len(files)}")).exists():
        files.append(older)
    return files[::-1]
