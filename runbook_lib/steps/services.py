"""Steps that stop, start and restart services."""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import ClassVar, Literal

from runbook_lib.config.compatibility import STOPPED, Rules, State
from runbook_lib.config.plan.steps import ACCESS, About, BuildingStep, RevertingStep, ServicesStep, StepSpec, Touches
from runbook_lib.config.target import VersionByLog, VersionByUrl
from runbook_lib.context import Context, builds, images
from runbook_lib.context.old_code import commit_without
from runbook_lib.errors import AdapterError, StepFailed
from runbook_lib.postgres.sessions import Session, of_role
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.services import Restart as Restarting
from runbook_lib.services import Restore, worst
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step, looked_at
from runbook_lib.steps.by_hand import Instruction, in_shell, in_shell_at, in_words
from runbook_lib.system.processes import typed, until

POLL = 0.05  # seconds
CURL = ["curl", "--fail", "--silent", "--retry", "30", "--retry-delay", "1", "--retry-connrefused"]
IMAGES = "images"  # the name that waives the images built beforehand


class _ServicesStep(Step):
    @property
    def services(self) -> list[str]:
        assert isinstance(self.spec, ServicesStep)
        return self.spec.services

    def _running(self) -> list[str]:
        running = self.context.adapters.services.running_of(self.services)
        return [name for name in self.services if name in running]

    def _stop(self) -> Facts:
        self._stop_at_once(self.services)
        return {"stopped": self.services}

    def _stop_at_once(self, names: Sequence[str]) -> None:
        """Stop services in the plan's order, at the same time if none needs another. Changes the target."""
        for together in self._apart_by_need(names):
            self.context.adapters.services.stop(*together)

    def _apart_by_need(self, names: Sequence[str]) -> list[list[str]]:
        """Split services, in order, into lists in which none needs another. Pure."""
        needs = {(need.service, need.needs) for need in self.context.plan.needs}
        found: list[list[str]] = []
        for name in names:
            if not found or any((before, name) in needs for before in found[-1]):
                found.append([])
            found[-1].append(name)
        return found

    def _start(self, *, back: bool = False) -> Facts:
        deadline = time.monotonic() + self.context.target.services.timeout
        services, restore = self.context.adapters.services, dict(self._to_restore())
        from_images = images.to_start(self.context, self.services, back=back)
        restore |= {name: {**restore.get(name, {}), "image": image} for name, image in from_images.items()}
        marks = services.log_marks(self.services)
        services.start(*self.services, **({"restore": restore} if restore else {}))
        running = {name: self._wait_for_version(name, deadline) for name in self.services}
        more = {"logs": marks, "images": from_images}
        return {"running": running, **{key: value for key, value in more.items() if value}}

    def _stopped_by_hand(self) -> list[Instruction]:
        names = [name for together in self._apart_by_need(self.services) for name in together]
        lines = self.context.adapters.services.stop_by_hand(names)
        return [in_shell("\n".join(lines), "the manager reports each as stopped")]

    def _started_by_hand(self) -> list[Instruction]:
        lines = self.context.adapters.services.start_by_hand(self.services, self._to_restore())
        started = in_shell("\n".join(lines), "the manager reports each as running")
        return [started, *map(self._version_by_hand, self.services)]

    def _version_by_hand(self, name: str) -> Instruction:
        """Return how a person checks the version that a service runs."""
        target = self.context.target
        source, pinned = target.services.versions[name], target.services.pinned.get(name)
        expected = pinned
        if not pinned:
            at = typed(["git", "-C", target.repositories[target.services.built_from[name]].path, "rev-parse", "HEAD"])
            expected = f"the commit that `{at}` prints"
        if isinstance(source, VersionByUrl):
            return in_shell_at(None, [*CURL, source.url], expect=f"{source.field} is {expected}")
        where = f"its log, by {source.log}" if isinstance(source, VersionByLog) else "its manager"
        return in_words(f"See which version of {name} runs: {where} reports it.", f"it is {expected}")

    def _to_restore(self) -> Restore:
        """Return what a start restores: as approved, once a step of the run has begun to act on the service."""
        found = dict(self.context.adapters.services.to_restore(self.services))
        for name, approved in self.context.state.agreed.items():
            if self.context.state.step(name).status != "pending":
                recorded = approved["facts"].get("restore", {})
                found |= {service: recorded[service] for service in self.services if service in recorded}
        return found

    def _facts(self, facts: Facts) -> Facts:
        """Add what a start restores to the step's facts, if anything."""
        return {**facts, **({"restore": restore} if (restore := self._to_restore()) else {})}

    def _restored(self) -> list[str]:
        """Return what a start restores apart from the services themselves, a line each."""
        found = {
            name: {key: value for key, value in what.items() if value != 1} for name, what in self._to_restore().items()
        }
        return [
            f"start {name} again with {', '.join(f'{key} {value}' for key, value in what.items())}"
            for name, what in found.items()
            if what
        ]

    def _looks_of_manager(self, stopped_by: Collection[str] = (), *, stops: bool = False) -> list[Precondition]:
        """Return the manager's preconditions, without those that earlier stop steps have already looked at."""
        state, when = self.context.state, When.AT_THE_STEP if stopped_by else When.BEFOREHAND
        return [
            self.need(look.suffix, look.title, when, look.find, waivable=True)
            for look in self.context.adapters.services.looks(self._restarting(stopped_first=stops or bool(stopped_by)))
            if not any(f"{stop}: {look.suffix}" in state.waivers for stop in stopped_by)
        ]

    def _restarting(self, *, stopped_first: bool) -> Restarting:
        target, state = self.context.target, self.context.state
        changing = [name for name, spec in self.context.specs.items() if isinstance(spec, (RevertingStep, BuildingStep))]
        return Restarting(
            names=self.services,
            folders={
                name: Path(target.repositories[repository].path)
                for name, repository in target.services.built_from.items()
                if name in self.services and name not in target.services.pinned
            },
            code_changed=any(state.step(name).status != "pending" for name in changing),
            stopped_first=stopped_first,
        )

    def _wait_for_version(self, name: str, deadline: float) -> str:
        expected, found, problem = builds.expected(self.context, name), "", ""

        def is_up() -> bool:
            nonlocal found, problem
            try:
                found = builds.running(self.context, name)
                problem = f"it runs {found}, not {expected[:12]}"
            except AdapterError as error:
                found, problem = "", error.what
            return builds.same(found, expected)

        if until(is_up, deadline - time.monotonic(), POLL):
            return found
        raise StepFailed(
            f"{name} did not start in the expected version: {problem}",
            where=f"service {name}",
            state="It was started, but does not run the expected version.",
            safe_next="Read its log, fix the cause, and run the step again.",
        )

    def _in_expected_version(self) -> list[str]:
        up = self.context.adapters.services.up(self.services)
        found = {name: self._version(name) for name in self.services if name in up}
        return [name for name, version in found.items() if builds.same(version, builds.expected(self.context, name))]

    def _version(self, name: str) -> str:
        try:
            return builds.running(self.context, name)
        except AdapterError:
            return ""

    def _expected_by_plan(self) -> dict[str, str]:
        """Return service -> the commit it will run after this run's reverts."""
        reverted = {spec.repository for spec in self.context.specs.values() if isinstance(spec, RevertingStep)}
        built_from = self.context.target.services.built_from
        taken_back = {
            name: built_from[name]
            for name in self.services
            if built_from.get(name) in reverted and name not in self.context.target.services.pinned
        }
        made = {repository: commit_without(self.context, repository) for repository in dict.fromkeys(taken_back.values())}
        return {
            name: made[taken_back[name]] if name in taken_back else builds.expected(self.context, name)
            for name in self.services
        }


class StopKeys(ServicesStep):
    """Stop services."""

    kind: Literal["stop"]

    requires = ()
    about = About(
        title="Stop the services",
        estimate=20,
        does="Stops each service in the plan's order.",
        expect="The services have no process, open port or database connection left.",
        if_not="Read the log of the service that still runs. Apply the step again when it has ended.",
        preserves="Each service can be started again.",
        reversible=True,
        log_line="Services stopped",
        starts=False,
        starts_on_undo=True,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes the services, and depends on their access to the database."""
        return Touches(changes=frozenset(f"service {name}" for name in self.services), rests_on=frozenset({ACCESS}))

    def after(self, state: State, rules: Rules) -> State:
        """Return the state with its services stopped."""
        return replace(state, running={**state.running, **dict.fromkeys(self.services, frozenset({STOPPED}))})


class Stop(_ServicesStep):
    """Stop services, and check that no process, open port or database connection of theirs is left."""

    Keys = StopKeys

    BEGINS_OUTAGE = True

    def preview(self) -> Preview:
        """Show what would be stopped, and which running services nobody named. Read-only."""
        running, forgotten = self._running(), self._forgotten()
        would = [f"stop {', '.join(self.services)} ({', '.join(running) or 'none'} running now): users see an outage"]
        if forgotten:
            would.append(f"not begin while {', '.join(forgotten)} runs, because neither the plan nor the target names it")
        return Preview(
            self.name,
            self.title,
            would=would,
            undone_by="starting them again",
            estimate=self.spec.estimate,
            facts=self._facts({"services": self.services}),
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return the manager's commands. Read-only."""
        return self._stopped_by_hand()

    def needs(self) -> list[Precondition]:
        """No unnamed service runs, since it could keep writing; and all can start again as they are. Pure."""

        def forgotten() -> Found:
            return _none(self._forgotten(), "plan or target name every running service", "not named in plan or target")

        need = self.need("forgotten", "No forgotten worker", When.BEFOREHAND, forgotten)
        return [need, *self._looks_of_manager(stops=True)]

    def probe(self) -> Probe:
        """Report whether all are stopped and disconnected. Read-only."""
        running = self._running()
        if running:
            effect = Effect.NOT_DONE if len(running) == len(self.services) else Effect.HALF_DONE
            return Probe(effect, f"running: {', '.join(running)}")
        if connected := _sessions(self.context):
            return Probe(Effect.HALF_DONE, f"{len(connected)} database connections of theirs are left")
        return Probe(Effect.DONE, "none runs, and none is connected to the database")

    def apply(self) -> Facts:
        """Stop the services in the plan's order. Changes the target."""
        left = self._stop()
        for pooler in self.poolers:  # it would keep connections of stopped clients
            pooler.release()
        role, timeout = self.context.target.database.application_role, self.context.target.services.timeout
        with self.context.adapters.postgres.connect() as connection:
            until(lambda: not of_role(connection, role), timeout, POLL)
        return left

    def verify(self) -> list[Result]:
        """Check that none runs, and none is connected. Read-only."""
        return [
            self.result("stopped", "Services stopped", *_none(self._running(), "none runs", "still running")),
            *self._ports(),
            looked_at(disconnected(self)),
        ]

    def _forgotten(self) -> list[str]:
        named = {*self.context.plan.services, *self.context.target.services.unmanaged}
        return sorted(self.context.adapters.services.all_running() - named)

    def _ports(self) -> list[Result]:
        """Check that nothing listens on the services' addresses in the target."""
        addresses = [a for name in self.services for a in self.context.target.services.listens.get(name, [])]
        if not addresses:
            return []
        try:
            found = _none(list(filter(self.context.adapters.listens, addresses)), "none is open", "still open")
        except AdapterError as error:
            found = Status.UNKNOWN, error.what
        return [self.result("ports", "No port of theirs is open", *found)]

    def undo(self) -> Facts:
        """Start the services again. Changes the target."""
        return self._start(back=True)


class _StartedKeys(ServicesStep):
    def touches(self) -> Touches:
        """It changes the services, and depends on their access to the database."""
        return Touches(changes=frozenset(f"service {name}" for name in self.services), rests_on=frozenset({ACCESS}))

    def after(self, state: State, rules: Rules) -> State:
        """Return the state in which its services run the current build."""
        return replace(state, running={**state.running, **{name: rules.built(state, name) for name in self.services}})


class StartKeys(_StartedKeys):
    """Start services."""

    kind: Literal["start"]

    requires = ()
    about = About(
        title="Start the services",
        estimate=30,
        does="Starts each service in the plan's order and waits until it reports its version.",
        expect="Each service runs the expected version.",
        if_not="Read the log of the service that did not start, fix the cause, then apply the step again.",
        preserves="Each service can be stopped again.",
        reversible=True,
        log_line="Services restarted",
        starts=True,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )


class Start(_ServicesStep):
    """Start services and wait until each reports the expected version."""

    Keys: ClassVar[type[StepSpec]] = StartKeys

    def preview(self) -> Preview:
        """Show what would be started, in which version. Read-only."""
        expected, from_images = self._expected_by_plan(), self._images()
        ready = {name: why for name, (status, why) in from_images.items() if status is Status.PASS}
        return Preview(
            self.name,
            self.title,
            would=[
                *(f"{self.spec.kind} {name} in version {commit[:12]}" for name, commit in expected.items()),
                *(
                    f"use {image[:19]} for {name}, an image built beforehand from the old code"
                    for name, image in ready.items()
                ),
                *(
                    f"build the image of {name} with all processors: build_limits.processors does not limit image builds"
                    for name in images.unlimited(self.context, from_images)
                ),
                *self._restored(),
            ],
            undone_by="stopping them",
            estimate=self.spec.estimate,
            facts=self._facts({"versions": expected, **({"images": sorted(ready)} if from_images else {})}),
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return the manager's commands, and how each service reports its version. Read-only."""
        return self._started_by_hand()

    def needs(self) -> list[Precondition]:
        """Each running service reports a version that the step can wait for, and all can start as they are. Pure."""
        title = "Each running service reports its version"
        versions = self.need("versions", title, When.BEFOREHAND, self._versions_known, waivable=True)
        title = "The image of the old version is built before downtime"
        built = self.need(IMAGES, title, When.ONLY_BEFOREHAND, self._images_ready, waivable=True)
        return [versions, built, *self._looks_of_manager(self._stopped_by())]

    def make_ready(self) -> None:
        """Tag the images of the old version, and those that run now, for the run. Changes the engine's tags."""
        if images.built(self.context, self.services):
            if images.ITEM not in self.reporter.pending():
                kept = f"the images of the old version and the previous ones are kept as {images.of_run(self.context)}"
                self.reporter.open_cleanup(images.ITEM, kept)
            self._images()
            images.keep_previous(self.context, self.services)

    def purge_preview(self, item: str) -> Preview:
        """Show that the run's tags would be removed. Read-only."""
        return Preview(
            self.name,
            f"{self.title}: remove the run's tags from its images",
            would=["remove them; an undo then rebuilds the previous version, unless another tag has its image"],
            undone_by="nothing",
            irreversible=True,
        )

    def purge(self, item: str) -> Facts:
        """Remove the run's tags from its images. Changes the engine's tags."""
        taken_off = images.remove(self.context)
        self.reporter.close_cleanup(item)
        return {"taken off": taken_off}

    def probe(self) -> Probe:
        """Report whether all run in the expected version. Read-only."""
        running = self._in_expected_version()
        if len(running) == len(self.services):
            return Probe(Effect.DONE, "all run in the expected version")
        return Probe(
            Effect.HALF_DONE if running else Effect.NOT_DONE, f"in the expected version: {', '.join(running) or 'none'}"
        )

    def apply(self) -> Facts:
        """Start the services in the plan's order, after stopping those in another version, the last one first.

        Changes the target.
        """
        right = self._in_expected_version()
        self._stop_at_once([name for name in reversed(self._running()) if name not in right])
        return self._start()

    def verify(self) -> list[Result]:
        """Check that each runs in the expected version. Read-only."""
        wrong = sorted(set(self.services) - set(self._in_expected_version()))
        return [
            self.result(
                "running",
                "Services run in the expected version",
                *_none(wrong, "all do", "not in the expected version"),
            )
        ]

    def undo(self) -> Facts:
        """Stop the services, the last one first. Changes the target."""
        self._stop_at_once(self.services[::-1])
        return {"stopped": self.services}

    def _stopped_by(self) -> list[str]:
        """Return the run's stop steps before this one, if they stop all its services."""
        before = takewhile(lambda item: item[0] != self.name, self.context.specs.items())
        stops = {name: spec.services for name, spec in before if isinstance(spec, StopKeys)}
        stopped = {service for services in stops.values() for service in services}
        return list(stops) if stopped.issuperset(self.services) else []

    def _images(self) -> dict[str, Found]:
        """Return service -> whether its image of the old version exists, without a build in downtime if waived."""
        state = self.context.state
        waived = bool(state.begun_since) and f"{self.name}: {IMAGES}" in state.waivers
        return images.build(self.context, self.services, tries=not waived)

    def _images_ready(self) -> Found:
        found = self._images()
        if not found:
            return Status.PASS, "no image is built here from code that the run changes"
        return worst([(status, f"{name}: {why}") for name, (status, why) in found.items()])

    def _versions_known(self) -> Found:
        up = self.context.adapters.services.up(self.services)
        found = {name: builds.running(self.context, name) for name in self.services if name in up}
        if labels := [name for name, version in found.items() if not builds.comparable(self.context, name, version)]:
            said = ", ".join(f"{name} reports {found[name]}" for name in labels)
            return Status.UNKNOWN, (
                f"{said}, which is not a commit, and the step waits for a commit of its repository; two builds may report "
                f"the same. Set services.versions.{labels[0]} in the target to a `url` or a `log` that reports the commit"
            )
        return Status.PASS, ", ".join(f"{name}: {version[:12]}" for name, version in found.items()) or "none of them runs"


class RestartKeys(_StartedKeys):
    """Stop services and start them again."""

    kind: Literal["restart"]

    requires = ()
    about = About(
        title="Restart the services",
        estimate=30,
        does="Stops each service and starts it again.",
        expect="Each service runs the expected version.",
        if_not="Read the log of the service that did not start, fix the cause, then apply the step again.",
        preserves="An undo restarts the services with the build that is installed then.",
        reversible=True,
        log_line="Services restarted",
        starts=True,
        starts_on_undo=True,
        in_the_way=True,
        on_table="",
    )


class Restart(Start):
    """Stop and start services so that they run the expected version."""

    Keys = RestartKeys

    UNDONE_LAST = True

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return the manager's commands, and how each service reports its version. Read-only."""
        return [*self._stopped_by_hand(), *self._started_by_hand()]

    def probe(self) -> Probe:
        """Report whether this run restarted them; a version served from a file does not show it. Read-only."""
        if not self.is_done:
            return Probe(Effect.NOT_DONE, "no restart by this run is on record")
        return super().probe()

    def apply(self) -> Facts:
        """Stop the services, then start them. Changes the target."""
        self._stop()
        return self._start()

    def undo(self) -> Facts:
        """Restart the services in the version that is built now. Changes the target."""
        self._stop()
        return self._start(back=True)


def disconnected(step: Step) -> Precondition:
    """Make a precondition that the application's role has no connection to the database. Pure."""

    def look() -> Found:
        pids = [f"pid {session.pid} ({session.program or 'no name'})" for session in _sessions(step.context)]
        return _none(pids, "none is left", "still connected")

    return step.need("disconnected", "No connection of the application is left", When.AT_THE_STEP, look)


def _sessions(context: Context) -> list[Session]:
    with context.adapters.postgres.connect() as connection:
        return of_role(connection, context.target.database.application_role)


def _none(found: list[str], good: str, bad: str) -> tuple[Status, str]:
    return (Status.FAIL, f"{bad}: {', '.join(found)}") if found else (Status.PASS, good)
