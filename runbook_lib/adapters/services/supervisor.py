"""Services under supervisord."""

import time
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Error, Fault

from runbook_lib.adapters.services import log_lines
from runbook_lib.adapters.services.errors import no_log, not_started, not_stopped, refused, unknown_service, unreachable
from runbook_lib.adapters.services.rpc import call
from runbook_lib.errors import AdapterError

INTERVAL = 0.05  # seconds between two questions
MTIME_LAG = 1.0  # seconds by which a file's time may lag behind what was written to it
STOPPED = {"STOPPED", "EXITED", "FATAL"}
SETTLED = STOPPED | {"RUNNING"}
BAD_NAME, ALREADY_STARTED, NOT_RUNNING = 10, 60, 70  # faults of its RPC interface


class SupervisorServices:
    """Services of the supervisord behind `socket`, each the process of the same name."""

    def __init__(self, socket: Path, timeout: float) -> None:
        self._socket = socket
        self._timeout = timeout

    def is_running(self, name: str) -> bool:
        """See `Services.is_running`."""
        return bool(self._settled(name)["statename"] == "RUNNING")

    def stop(self, name: str) -> None:
        """See `Services.stop`."""
        deadline = time.monotonic() + self._timeout
        while (info := self._looked_at_twice(name))["statename"] not in STOPPED:
            if time.monotonic() > deadline:
                raise not_stopped(name, str(self._socket), self._timeout, info["statename"])
            if info["statename"] != "STOPPING":
                self._ask(name, "stopProcess", name, False, fine=NOT_RUNNING)
            time.sleep(INTERVAL)

    def start(self, name: str) -> None:
        """See `Services.start`."""
        if self.is_running(name):
            return
        self._ask(name, "startProcess", name, False, fine=ALREADY_STARTED)
        info = self._settled(name)
        if info["statename"] != "RUNNING":
            reason = info["spawnerr"] or f"exit status {info['exitstatus']}"
            raise not_started(name, str(self._socket), f"{info['statename']}, {reason}")

    def logs(self, name: str, since: datetime | None) -> list[str]:
        """See `Services.logs`; the error log, where there is one apart, follows the other."""
        info = self._info(name)
        if not info["stdout_logfile"]:
            raise no_log(name, str(self._socket), "supervisord keeps none")
        if not info["start"]:
            return []
        paths = [Path(info[key]) for key in ("stdout_logfile", "stderr_logfile") if info[key]]
        try:
            return [line for path in paths for line in log_lines.since(_lines(path, since), since)]
        except OSError as error:
            raise no_log(name, str(error.filename), error.strerror or str(error)) from None

    def _settled(self, name: str) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout
        while (info := self._looked_at_twice(name))["statename"] not in SETTLED:
            if time.monotonic() > deadline:
                raise AdapterError(
                    f"{name} neither runs nor is stopped after {self._timeout:g} s.",
                    where=str(self._socket),
                    state=f"supervisord says {info['statename']} {info['spawnerr']}".strip() + ", and goes on trying.",
                    safe_next="Read its log; stop it, mend the cause, and start it again.",
                )
            time.sleep(INTERVAL)
        return info

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


def _lines(path: Path, since: datetime | None) -> list[str]:
    """The lines of a log and of those of its rotated files that were written to since then, oldest first."""
    files = [path]
    while (older := path.with_name(f"{path.name}.{len(files)}")).exists():
        files.append(older)
    earliest = since.timestamp() - MTIME_LAG if since else 0.0
    recent = [file for file in files if file.stat().st_mtime >= earliest]
    return [line for file in reversed(recent) for line in file.read_text(errors="replace").splitlines()]
