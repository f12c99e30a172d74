"""What every service manager can do, and services that exist in memory only; each kind of manager is a module here."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from runbook_lib.config.kinds import classes_of, collected
from runbook_lib.config.target import ServicesTarget
from runbook_lib.errors import AdapterError
from runbook_lib.logs.times import written
from runbook_lib.results import Found, Status
from runbook_lib.system.processes import Processes

Restore = Mapping[str, Mapping[str, Any]]  # service -> what a start restores of it, as JSON
Marks = Mapping[str, Mapping[str, Any]]  # service -> where its log ended, as JSON
NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Restart:
    """What a run is about to do with services, as far as it decides how they come up again."""

    names: Sequence[str]
    folders: Mapping[str, Path] = field(default_factory=dict)  # service -> the checkout that it is built from
    code_changed: bool = False  # whether the run has begun to change code or builds
    stopped_first: bool = False  # whether they are stopped before it does


@dataclass(frozen=True)
class Look:
    """Something that decides how services come up again, and how to look at it without changing anything."""

    suffix: str  # by which it is waived
    title: str  # as it reads where it holds
    find: Callable[[], Found]


def worst(looks: Collection[Found]) -> Found:
    """Return what several looks found, as one: those that are worst, each reason once. Pure."""
    status = next((each for each in (Status.FAIL, Status.UNKNOWN) if any(each is found for found, _ in looks)), Status.PASS)
    return status, "; ".join(dict.fromkeys(why for found, why in looks if found is status))


def unknown_service(name: str, where: str) -> AdapterError:
    """Return the manager knows no such service."""
    return AdapterError(
        f"The service manager knows no service {name}.",
        where=where,
        state="Nothing was changed.",
        safe_next="Correct the name in the plan or in the manager's configuration.",
    )


def unreachable(name: str, where: str, reason: str) -> AdapterError:
    """Return the manager did not answer."""
    return AdapterError(
        f"The service manager did not answer about {name}: {reason}.",
        where=where,
        state=f"Whether {name} runs is unknown.",
        safe_next="Make sure that the manager runs and that you may use it; do not take the service for stopped.",
    )


def refused(name: str, where: str, reason: str) -> AdapterError:
    """Return the manager answered, but would not do what was asked."""
    return AdapterError(
        f"The service manager refused what was asked about {name}: {reason}.",
        where=where,
        state="No further request was sent to it.",
        safe_next="Fix what it names, then try again.",
    )


def not_stopped(name: str, where: str, timeout: float, state: str) -> AdapterError:
    """Return the service did not stop in time."""
    return AdapterError(
        f"{name} did not stop within {timeout:g} s.",
        where=where,
        state=f"The manager says: {state}. It may still be writing.",
        safe_next="Change no data under it; stop it by hand, or stop it here once more.",
    )


def not_started(name: str, where: str, reason: str) -> AdapterError:
    """Return the service did not start."""
    return AdapterError(
        f"{name} did not start.",
        where=where,
        state=f"The manager says: {reason}.",
        safe_next="Read its log, fix the cause, and start it again.",
    )


def no_log(name: str, where: str, reason: str) -> AdapterError:
    """Make the error that the log cannot be read."""
    return AdapterError(
        f"The log of {name} cannot be read: {reason}.",
        where=where,
        state="Nothing was changed; whether it holds errors is unknown.",
        safe_next="Make sure that the service logs to a file that you may read.",
    )


def no_time(name: str, where: str, remedy: str) -> AdapterError:
    """Return the lines of the log cannot be placed in time."""
    return AdapterError(
        f"The lines that {name} logs carry no time, and where its log ended at the start of this look was not recorded.",
        where=where,
        state="Nothing was changed; whether an error in it is an old one is unknown.",
        safe_next=remedy,
    )


def no_version(name: str, where: str, reason: str) -> AdapterError:
    """Make the error that the manager does not report the running version."""
    return AdapterError(
        f"The service manager does not report the running version of {name}: {reason}.",
        where=where,
        state="Nothing was changed; what the service runs is unknown.",
        safe_next="Start the service; or say under versions in the target how it reports its version itself.",
    )


def no_list(where: str, reason: str) -> AdapterError:
    """Return the manager did not say what it runs."""
    return AdapterError(
        f"The service manager did not answer what it runs: {reason}.",
        where=where,
        state="Whether anything runs is unknown.",
        safe_next="Make sure that the manager runs and that you may use it; do not take its services for stopped.",
    )


def split_lines(text: str) -> list[str]:
    """Return the lines of a log's text: a line feed ends one, and nothing else that a message may hold does. Pure."""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def lines_since(lines: Iterable[str], moment: datetime | None) -> list[str]:
    """Return the lines stamped at `moment` or later, with the unstamped lines that follow each. Read-only.

    A stamp without an offset is local time. Lines before the first stamp are kept: their time is unknown.
    """
    if moment is None:
        return list(lines)
    # Stamps have milliseconds, or whole seconds: a line of the same one may be later.
    earliest = moment.astimezone().replace(microsecond=moment.microsecond // 1000 * 1000)
    earliest_second = earliest.replace(microsecond=0)
    kept, keep = [], True
    for line in lines:
        stamp = written(line)
        if stamp is not None:
            keep = stamp >= (earliest if stamp.microsecond else earliest_second)
        if keep:
            kept.append(line)
    return kept


def has_times(lines: Iterable[str]) -> bool:
    """Check whether any of the lines is stamped. Pure."""
    return any(written(line) for line in lines)


class Services(Protocol):
    """Services by name, under one manager."""

    def all_running(self) -> set[str]:
        """Return the names of all services that the manager runs, whoever started them. Read-only.

        Raises:
            AdapterError: The manager does not answer.
        """

    def is_running(self, name: str) -> bool:
        """Check whether anything of the service runs, or will be run again by the manager unasked. Read-only.

        Raises:
            AdapterError: It is not known: the manager does not answer, or knows no such service.
        """

    def running_of(self, names: Collection[str]) -> set[str]:
        """Those services that run, as `is_running` says of each. Read-only.

        Raises:
            AdapterError: It is not known: the manager does not answer, or knows no such service.
        """

    def up(self, names: Collection[str]) -> set[str]:
        """Return the services that run completely and stay up; one that ends and is restarted is not up. Read-only.

        All are watched at once, so that many take no longer than one; what still runs as it was seen before is not watched
        for as long again.

        Raises:
            AdapterError: It is not known: the manager does not answer, or knows no such service.
        """

    def version(self, name: str) -> str:
        """Return what the manager says that the service runs: an image, a commit, or the label of a release. Read-only.

        Raises:
            AdapterError: It does not run, or in several versions at once, or the manager does not report it.
        """

    def stop(self, *names: str) -> None:
        """Stop services, and return once the manager says so of all; one that is stopped is left alone. Changes the target.

        They are stopped in this order, and where the manager can do so without waiting for one before the next.

        Raises:
            AdapterError: A service is unknown, and none was stopped; or the manager did not say within the timeout that all
                are stopped.
        """

    def stop_by_hand(self, names: Sequence[str]) -> list[str]:
        """Return what a person types into a shell to stop services, a line each, in this order. Read-only."""

    def start_by_hand(self, names: Sequence[str], restore: Restore = NOTHING) -> list[str]:
        """Return what a person types into a shell to start services, a line each, in this order. Read-only."""

    def looks(self, restart: Restart) -> list[Look]:
        """Return what can be known before downtime of whether services come up again as they are. Pure."""

    def to_restore(self, names: Collection[str]) -> Restore:
        """Return what a stop or a new container could lose and `start` restores: number of instances, watch mode. Read-only.

        Raises:
            AdapterError: It is not known: the manager does not answer, or knows no such service.
        """

    def start(self, *names: str, restore: Restore = NOTHING) -> None:
        """Start services in this order, and return once the manager says so of all; one that runs is left alone.

        What `to_restore` returned before they were stopped is restored; without it, what the manager still knows.

        None is waited for before the next is started; then all are watched at once. Where one ran before, what runs
        afterwards is what is there to be run now, not what ran then. A service that ends later than the manager or the
        target counts it as started may pass: probe its health. Changes the target.

        Raises:
            AdapterError: A service is unknown, ended right after it was started, or the manager did not say within the
                timeout that it runs; those after it may have been started.
        """

    def log_marks(self, names: Collection[str]) -> Marks:
        """Return where the log of each ends now, for `logs`; none where the manager itself times each line. Read-only.

        Raises:
            AdapterError: A log cannot be read.
        """

    def logs(self, name: str, since: datetime | None, mark: Mapping[str, Any] = NOTHING) -> list[str]:
        """Return the lines that the service logged, oldest first; with `since`, those from then on. Read-only.

        Lines without a time are those after the `mark` that was taken then.

        Raises:
            AdapterError: The log cannot be read, or its lines have no time and there is no mark.
        """


class Images(Protocol):
    """The images that services run in, where their manager builds them itself."""

    def built(self, names: Collection[str]) -> list[str]:
        """Those services whose image the manager builds. Read-only.

        Raises:
            AdapterError: It does not say.
        """

    def id(self, reference: str) -> str:
        """Return the id of an image, "" where there is none. Read-only."""

    def label(self, reference: str, name: str) -> str:
        """Return a label of an image, "" where there is none. Read-only."""

    def running(self, name: str) -> str:
        """Return the id of the one image that all of a service's containers are of, "" for none or several. Read-only."""

    def build(
        self,
        name: str,
        tag: str,
        folders: Mapping[Path, Path],
        commit: str,
        labels: Mapping[str, str],
        timeout: float,
        memory: int | None = None,
    ) -> None:
        """Build the image of a service under a tag of its own; the tag that its containers are made of is left alone.

        Changes the engine's images.

        Args:
            name: The service.
            tag: The tag.
            folders: Folder -> what is read in its place, of build contexts and of the manager's own files.
            commit: What it is built from, which it is labelled with.
            labels: Labels that it also gets.
            timeout: The seconds that it may take.
            memory: The bytes that each of its commands may hold; as much as there is, if None.

        Raises:
            AdapterError: It cannot be built, not from these folders, or not within that memory.
        """

    def tag(self, reference: str, tag: str) -> None:
        """Give an image one more tag. Changes the engine's images.

        Raises:
            AdapterError: It cannot.
        """

    def tags(self, repository: str) -> list[str]:
        """Return the tags that begin with a name and a colon. Read-only.

        Raises:
            AdapterError: The engine does not say.
        """

    def untag(self, tag: str) -> None:
        """Take a tag off, and with its last one the image away where no container needs it. Changes the engine's images.

        Raises:
            AdapterError: It cannot.
        """


@runtime_checkable
class HasImages(Protocol):
    """A manager that builds images; its `start` takes the id of one as `image` of what is restored of a service."""

    @property
    def images(self) -> Images:
        """The images."""


WHERE = "memory"


class MemoryServices:
    """Services whose start is a function from the name to the lines logged; it raises OSError when one does not start.

    `running`, `lines` and `releases` (what each would run if it were started) may be looked at and changed; with `reachable`
    off, the manager does not answer; what is `immortal` does not stop.
    """

    def __init__(self, names: Iterable[str], launch: Callable[[str], Iterable[str]] = lambda name: ()) -> None:
        self.lines: dict[str, list[str]] = {name: [] for name in names}
        self.running: set[str] = set()
        self.releases: dict[str, str] = {}
        self.immortal: set[str] = set()
        self.reachable = True
        self._started_from: dict[str, str] = {}
        self.launch = launch

    def all_running(self) -> set[str]:
        """See `Services.all_running`."""
        if not self.reachable:
            raise no_list(WHERE, "it is switched off")
        return set(self.running)

    def up(self, names: Collection[str]) -> set[str]:
        """See `Services.up`."""
        return {name for name in names if self.is_running(name)}

    def version(self, name: str) -> str:
        """See `Services.version`."""
        self._ask(name)
        if name not in self.running or not self._started_from.get(name):
            raise no_version(name, WHERE, "none is on record")
        return self._started_from[name]

    def is_running(self, name: str) -> bool:
        """See `Services.is_running`."""
        self._ask(name)
        return name in self.running

    def running_of(self, names: Collection[str]) -> set[str]:
        """See `Services.running_of`."""
        return {name for name in names if self.is_running(name)}

    def stop(self, *names: str) -> None:
        """See `Services.stop`."""
        for name in names:
            self._ask(name)
        self.running -= {*names} - self.immortal
        if going_on := [name for name in names if name in self.running]:
            raise not_stopped(", ".join(going_on), WHERE, 0, "it still runs")

    def stop_by_hand(self, names: Sequence[str]) -> list[str]:
        """See `Services.stop_by_hand`."""
        return [f"stop {name}" for name in names]

    def start_by_hand(self, names: Sequence[str], restore: Restore = NOTHING) -> list[str]:
        """See `Services.start_by_hand`."""
        return [f"start {name}" for name in names]

    def looks(self, restart: Restart) -> list[Look]:
        """See `Services.looks`: none."""
        return []

    def to_restore(self, names: Collection[str]) -> Restore:
        """See `Services.to_restore`: nothing."""
        return {}

    def start(self, *names: str, restore: Restore = NOTHING) -> None:
        """See `Services.start`."""
        for name in names:
            self._start(name)

    def _start(self, name: str) -> None:
        self._ask(name)
        if name in self.running:
            return
        try:
            self.lines[name].extend(self.launch(name))
        except OSError as error:
            raise not_started(name, WHERE, str(error)) from None
        self.running.add(name)
        self._started_from[name] = self.releases.get(name, "")

    def log_marks(self, names: Collection[str]) -> Marks:
        """See `Services.log_marks`: none."""
        return {}

    def logs(self, name: str, since: datetime | None, mark: Mapping[str, Any] = NOTHING) -> list[str]:
        """See `Services.logs`."""
        self._ask(name)
        return lines_since(self.lines[name], since)

    def _ask(self, name: str) -> None:
        if not self.reachable:
            raise unreachable(name, WHERE, "it is switched off")
        if name not in self.lines:
            raise unknown_service(name, WHERE)


T = TypeVar("T")

INTERVAL = 0.1  # seconds between two looks


class Steady:
    """Watches services until each was the same for so long; it knows since when it has seen each as it is.

    What is known of a service must differ once it was restarted, as by a pid and a number of restarts.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[str, tuple[Any, float]] = {}  # service -> what was seen of it, and when first

    def staying(self, look: Callable[[], Mapping[str, T]]) -> dict[str, T]:
        """Return what `look` finds of each service's processes, for those of which it stays the same for so long. Read-only.

        Where it finds nothing, there is nothing to wait for.
        """
        begun = time.monotonic()
        looked = look()
        seen = {name: processes for name, processes in looked.items() if processes}
        for name, processes in looked.items():
            if self._seen.get(name, (None, 0.0))[0] != processes:
                self._seen[name] = processes, time.monotonic()
        while seen and (left := max(self._seen[name][1] for name in seen) + self._seconds - begun) > 0:
            time.sleep(min(INTERVAL, left))
            begun, later = time.monotonic(), look()
            for name in [name for name, processes in seen.items() if later[name] != processes]:
                del seen[name], self._seen[name]
        return seen


@cache
def kinds() -> dict[str, Any]:
    """Return the kinds of manager that are installed, by the name that targets give them. Read-only.

    Raises:
        TypeError: Two have one name.
    """
    return collected(
        __name__,
        "runbook_lib.managers",
        lambda module: [(manager.Keys, manager) for manager in classes_of(module) if "Keys" in vars(manager)],
        by="manager",
    )


def connect(target: ServicesTarget, processes: Processes) -> Services:
    """Return the services that a target describes; nothing is asked of their manager yet. Read-only."""
    services: Services = kinds()[target.manager](target, processes)
    return services
