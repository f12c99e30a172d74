"""Services under pm2."""

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from runbook_lib import services
from runbook_lib.config.target import Command, ServicesTarget
from runbook_lib.errors import AdapterError
from runbook_lib.results import Found, Status
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
    pm2_daemon,
    refused,
    unknown_service,
    unreachable,
)
from runbook_lib.services.release_links import starts_from
from runbook_lib.system.processes import Completed, Processes, shown, typed, until
from runbook_lib.system.temporary import has_ended

STOPPED = {"stopped", "errored", "one-launch-status"}
AT_SET_TIMES = "at set times (cron_restart), even when it is stopped"
WATCH_SETTLES = 0.5  # seconds after a stop in which a change that pm2 saw before may still start the service again


@dataclass(frozen=True)
class _Process:
    """What is taken of an entry of the daemon's list; the rest holds its whole environment, and is let go of at once."""

    id: int
    name: str
    pid: int
    status: str
    restarts: int
    version: str  # the git commit, where pm2 looked it up at the start; else the version in package.json
    by_clock: bool  # pm2 starts it at set times, a stopped one too
    logs: tuple[str, ...]
    script: Path
    cwd: Path
    watched: tuple[str, ...]  # the folders that pm2 watches, "" for the working directory; none where it watches nothing
    watch_delay: float  # seconds

    @property
    def alive(self) -> bool:
        """Whether it runs, or pm2 will run it again."""
        return self.by_clock or not self.ended

    @property
    def ended(self) -> bool:
        """Whether it does not run now."""
        return self.status in STOPPED


class Pm2Target(ServicesTarget):
    """Services under pm2, each the processes of the same name."""

    manager: Literal["pm2"]
    home: str
    """Its PM2_HOME."""
    command: Command = ["pm2"]
    """How pm2 is run."""
    steady: Annotated[float, Field(ge=0)] = 2.0
    """Seconds that a service must stay up to count as started."""

    pins_are_reported_by_manager = False

    def tells_versions(self) -> bool:
        """Yes, by git's revision or the package's version. Pure."""
        return True


class Pm2Services:
    """Services of the pm2 daemon of one PM2_HOME, each all the processes of the same name.

    Every command names processes by pm2's own numbers: a name could be that of a file, which pm2 would launch, or "all".
    """

    Keys = Pm2Target

    def __init__(self, described: Pm2Target, processes: Processes) -> None:
        self._described = described
        self._steady = services.Steady(described.steady)
        self._home = Path(described.home)
        self._processes = processes

    def all_running(self) -> set[str]:
        """See `Services.all_running`."""
        try:
            return {process.name for process in self._list() if process.alive}
        except AdapterError as error:
            raise no_list(str(self._home), error.what.rstrip(".")) from None

    def is_running(self, name: str) -> bool:
        """See `Services.is_running`."""
        return bool(self.running_of([name]))

    def running_of(self, names: Collection[str]) -> set[str]:
        """See `Services.running_of`."""
        return {name for name, found in self._of_running(names).items() if found}

    def up(self, names: Collection[str]) -> set[str]:
        """See `Services.up`."""
        staying = self._steady.staying(lambda: self._of_running(names))
        return {name for name, found in staying.items() if {process.status for process in found} == {"online"}}

    def version(self, name: str) -> str:
        """See `Services.version`: the git commit that pm2 found at the start, else the version in package.json."""
        found = {process.version for process in self._of(name) if process.alive}
        if len(found) != 1 or not all(found):
            reason = "it does not run" if not found else f"its processes say {', '.join(sorted(found)) or 'nothing'}"
            raise no_version(name, str(self._home), reason)
        return found.pop()

    def stop(self, *names: str) -> None:
        """See `Services.stop`; pm2 itself stops one after another. Their processes must be gone from the system too."""
        found = self._of_each(names)
        for name, processes in found.items():
            if any(process.by_clock for process in processes):
                raise _comes_back(name, str(self._home), self._off_the_clock([name]))
        self._stop(found)  # which turns watch mode off
        each = [process for processes in found.values() for process in processes]
        time.sleep(max((WATCH_SETTLES + process.watch_delay for process in each if process.watched), default=0.0))
        if brought_back := list(dict.fromkeys(process.name for process in each if process.restarts or process.watched)):
            self._stop(self._of_each(brought_back))  # where pm2 was starting it again just as it stopped it

    def stop_by_hand(self, names: Sequence[str]) -> list[str]:
        """See `Services.stop_by_hand`: by pm2's own numbers, as they are now."""
        found = self._of_each(names)
        return [self._typed("stop", found[name]) for name in names]

    def start_by_hand(self, names: Sequence[str], restore: Restore = NOTHING) -> list[str]:
        """See `Services.start_by_hand`: by pm2's own numbers, as they are now."""
        found = self._of_each(names)
        watched = [name for name in names if restore.get(name, NOTHING).get("watch mode")]
        return [self._typed("start", found[name], *(["--watch"] if name in watched else [])) for name in names]

    def _typed(self, verb: str, found: Sequence[_Process], *more: str) -> str:
        command = [*self._described.command, verb, *(str(process.id) for process in found), *more]
        return typed(command, env={"PM2_HOME": str(self._home)})

    def _stop(self, found: Mapping[str, list[_Process]]) -> None:
        running = [process for processes in found.values() for process in processes if process.alive]
        if not running:
            return
        names = list(dict.fromkeys(process.name for process in running))
        named, timeout = ", ".join(names), self._described.timeout * len(names)
        deadline, pids = time.monotonic() + timeout, {process.pid for process in running if process.pid}
        while running and time.monotonic() < deadline:  # watch mode may start one again while pm2 stops it
            try:
                answer = self._pm2("stop", *(str(process.id) for process in running), timeout=timeout)
            except AdapterError:
                raise not_stopped(named, str(self._home), timeout, "pm2 is still stopping it") from None
            self._require(named, answer, "stop")
            running = [process for processes in self._of_each(names).values() for process in processes if process.alive]
            pids |= {process.pid for process in running if process.pid}
        if running or not until(lambda: all(map(has_ended, pids)), deadline - time.monotonic(), services.INTERVAL):
            raise not_stopped(named, str(self._home), timeout, "; ".join(map(self._states, names)))

    def looks(self, restart: Restart) -> list[Look]:
        """See `Services.looks`."""
        return [
            Look("watch", "pm2 restarts none of them by itself meanwhile", partial(self._watch, restart)),
            Look("paths", "pm2 starts what the rollback takes back", partial(self._paths, restart)),
            Look("releases", "Each reported version differs from the one to go back to", partial(self._releases, restart)),
        ]

    def _watch(self, restart: Restart) -> Found:
        found = self._of_each(restart.names)
        clocked = [name for name, processes in found.items() if any(process.by_clock for process in processes)]
        if clocked and not restart.code_changed:
            return Status.FAIL, f"pm2 starts {', '.join(clocked)} {AT_SET_TIMES}. {self._off_the_clock(clocked)}"
        watched = {name: folders for name, processes in found.items() if (folders := _watched(processes))}
        if not watched or restart.code_changed:
            return Status.PASS, "the code is changed already" if watched else "none is watched"
        if lists := {name: folders for name, folders in watched.items() if folders != {""}}:
            [name, folders], command = next(iter(lists.items())), shown(self._described.command)
            return Status.FAIL, (
                f"pm2 watches {', '.join(sorted(folders))} for {', '.join(lists)}: a stop ends that, and no command turns "
                f"a list of folders on again. Set `watch: false` in the ecosystem file; `{command} delete {name}` and "
                f"`{command} start ecosystem.config.js --only {name}` for each; afterwards the same with `watch`"
            )
        if restart.stopped_first:
            return Status.PASS, f"watch mode of {', '.join(watched)} is off from the stop until the start, and on again then"
        commands = "; ".join(f"`{shown([*self._described.command, 'restart', name, '--watch'])}`" for name in watched)
        return Status.FAIL, (
            f"pm2 watches the files of {', '.join(watched)} and would restart it in the middle of the build. "
            f"Turn watch mode off beforehand and on afterwards, both by {commands}, which restarts it"
        )

    def _off_the_clock(self, names: Sequence[str]) -> str:
        command = self._described.command
        off = "; ".join(f"`{shown([*command, 'restart', name, '--cron-restart', '0'])}`" for name in names)
        return f"Take the times off beforehand by {off}, and set them again afterwards"

    def _paths(self, restart: Restart) -> Found:
        command = shown(self._described.command)
        looks = [
            starts_from(name, process.script, process.cwd, restart.folders.get(name), command)
            for name, processes in self._of_each(restart.names).items()
            for process in processes
        ]
        return services.worst(looks)

    def _releases(self, restart: Restart) -> Found:
        pinned = {name: pin for name in restart.names if (pin := self._described.pinned.get(name))}
        if not pinned:
            return Status.PASS, "no release is pinned"
        found = self._of_each(list(pinned))
        same = [
            f"{name} reports {pin}"
            for name, pin in pinned.items()
            if not restart.code_changed and any(process.alive and process.version == pin for process in found[name])
        ]
        if same:
            return Status.UNKNOWN, (
                f"{', '.join(same)}, which is the release to go back to: pm2 takes it from package.json, and both releases "
                "may have the same there. Set services.versions to a `url` or a `log` that distinguishes them"
            )
        return Status.PASS, "it does"

    def to_restore(self, names: Collection[str]) -> Restore:
        """See `Services.to_restore`: watch mode, which a stop turns off; pm2 itself keeps the instances."""
        return {name: {"watch mode": "on"} for name, found in self._of_each(names).items() if _watched(found) == {""}}

    def start(self, *names: str, restore: Restore = NOTHING) -> None:
        """See `Services.start`; the processes keep the environment that pm2 has for them, never the operator's."""
        ended = [process for found in self._of_each(names).values() for process in found if process.ended]

        def to_watch(process: _Process) -> bool:
            return bool(restore.get(process.name, NOTHING).get("watch mode")) and not process.watched

        for watch, alike in groupby(ended, to_watch):  # --watch toggles
            processes = list(alike)
            answer = self._pm2("start", *(str(process.id) for process in processes), *(["--watch"] if watch else []))
            self._require(", ".join(dict.fromkeys(process.name for process in processes)), answer, "start")
        up = self.up(names)
        for name in names:
            if name not in up:
                raise not_started(name, str(self._home), self._states(name))

    def log_marks(self, names: Collection[str]) -> Marks:
        """See `Services.log_marks`."""
        return {name: log_files.mark(_log_files(found)) for name, found in self._of_each(names).items()}

    def logs(self, name: str, since: datetime | None, mark: Mapping[str, Any] = NOTHING) -> list[str]:
        """See `Services.logs`; each process' errors follow its other lines."""
        logs = _log_files(self._of(name))
        if not logs:
            raise no_log(name, str(self._home), "pm2 keeps none")
        try:
            return log_files.lines(logs, since, mark)
        except log_files.UnplacedError as error:
            timed = shown([*self._described.command, "restart", name, "--time"])
            raise no_time(name, str(error), f"Have pm2 put the time before each line: `{timed}`.") from None
        except OSError as error:
            raise no_log(name, str(error.filename), error.strerror or str(error)) from None

    def _of(self, name: str) -> list[_Process]:
        return self._of_each([name])[name]

    def _of_each(self, names: Collection[str]) -> dict[str, list[_Process]]:
        try:
            processes = self._list()
        except AdapterError as error:
            raise unreachable(", ".join(names), str(self._home), error.what.rstrip(".")) from None
        found = {name: [process for process in processes if process.name == name] for name in names}
        for name in names:
            if not found[name]:
                raise unknown_service(name, str(self._home))
        return found

    def _of_running(self, names: Collection[str]) -> dict[str, list[_Process]]:
        """Return all processes of each, those that ended too, while any is alive."""
        found = self._of_each(names)
        return {name: found[name] if any(process.alive for process in found[name]) else [] for name in names}

    def _list(self) -> list[_Process]:
        entries = pm2_daemon.listed(self._home, self._described.timeout)
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # an error would hold what it could not read
            return [_read(entry) for entry in entries]
        raise AdapterError("pm2's daemon lists processes in another form than is known.")

    def _pm2(self, *words: str, timeout: float | None = None) -> Completed:
        command = [*self._described.command, *words]
        env = {"PM2_HOME": str(self._home), "NO_COLOR": "1"}
        return self._processes.run(command, timeout=timeout or self._described.timeout, env=env)

    def _require(self, name: str, answer: Completed, verb: str) -> None:
        if answer.exit_code != 0:
            raise refused(name, shown(self._described.command), f"{verb} ended with exit code {answer.exit_code}")

    def _states(self, name: str) -> str:
        return "; ".join(f"{p.status}, restarted {p.restarts} times" for p in self._of(name))


def _read(entry: dict[str, Any]) -> _Process:
    of_pm2 = entry["pm2_env"]
    revision = (of_pm2.get("versioning") or {}).get("revision")
    label = str(of_pm2.get("version") or "").replace("N/A", "")
    logs = tuple(str(of_pm2.get(key) or "") for key in ("pm_out_log_path", "pm_err_log_path"))
    return _Process(
        id=int(entry["pm_id"]),
        name=str(entry["name"]),
        pid=int(entry.get("pid") or 0),
        status=str(of_pm2["status"]),
        restarts=int(of_pm2.get("restart_time") or 0),
        version=str(revision or label),
        by_clock=bool(of_pm2.get("cron_restart")),
        logs=logs,
        script=Path(str(of_pm2.get("pm_exec_path") or "")),
        cwd=Path(str(of_pm2.get("pm_cwd") or "")),
        watched=_folders(of_pm2.get("watch")),
        watch_delay=float(of_pm2.get("watch_delay") or 0) / 1000,
    )


def _folders(watch: object) -> tuple[str, ...]:
    if isinstance(watch, (list, str)):
        return tuple(watch) if isinstance(watch, list) else (watch,)
    return ("",) if watch else ()


def _watched(found: Sequence[_Process]) -> set[str]:
    return {folder for process in found for folder in process.watched}


def _log_files(found: Sequence[_Process]) -> list[list[Path]]:
    paths = dict.fromkeys(path for process in found for path in process.logs if path and path != "/dev/null")
    return [_rotated(Path(path)) for path in paths]


def _comes_back(name: str, where: str, safe_next: str) -> AdapterError:
    """Return the error of a service that would not stay stopped."""
    what = f"pm2 starts {name} {AT_SET_TIMES}."
    return AdapterError(what, where=where, state="It was not stopped.", safe_next=f"{safe_next}.")


def _rotated(path: Path) -> list[Path]:
    """Return a log and the files that pm2-logrotate or logrotate have made of it, compressed ones too, oldest first."""
    patterns = (f"{path.stem}__*{path.suffix}", f"{path.stem}__*{path.suffix}.gz", f"{path.name}[.-]*")
    made = {file for pattern in patterns for file in path.parent.glob(pattern)}
    return [*sorted(made, key=lambda file: file.stat().st_mtime), path]
