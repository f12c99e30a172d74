"""Walks a fleet: all previews at once, then wave after wave, as many targets of a server at once as its file allows."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, sleep

from runbook_lib.errors import AdapterError, Declined, PreconditionError
from runbook_lib.fleet import FleetRun, archive, digest_of, outcome, shared
from runbook_lib.fleet.child import Action, Task, requests
from runbook_lib.fleet.engines import Ended, Engine
from runbook_lib.fleet.outcome import Outcome, untried
from runbook_lib.fleet.standing import DONE, FAILED, SETTLED, Standing
from runbook_lib.journal import Journal
from runbook_lib.journal.control import Request, request_control
from runbook_lib.journal.folder import RunFolder

TRIES = 3  # how often a target whose worker was lost is looked at again
NAMED = 10  # targets that failed, in an outcome
LOOK = 0.5  # seconds between two looks at what was requested
LONG_WAIT = 10  # seconds for a lock, after which a target leaves room for another of its server
ROOM = 2  # times `at_once`: targets of a server under way, with those that wait for a lock

Watch = Callable[[], object]  # is called whenever something may have changed


def preview(run: FleetRun, engine: Engine, watch: Watch = lambda: None) -> str:
    """Preview every target that nothing was done to; returns the digest that approves those that are ready. Read-only.

    Raises:
        PreconditionError: Another process walks this fleet.
    """
    with run.folder.lock(), _walking(run, engine, "preview", watch) as walk:
        names = [name for name, each in run.standings().items() if not each.touched and each.word not in SETTLED]
        _Round(walk, "preview", {}).walk(names)
        if walk.signal:
            raise KeyboardInterrupt
        standings = run.standings()
        ready = [name for name in names if standings[name].word == "previewed" and name not in walk.given_up]
        digests = {name: standings[name].digest for name in ready}
        held = {name: standings[name].reason or "no preview was taken" for name in names if name not in digests}
        digest = digest_of(digests)
        run.journal.append(
            "fleet-previewed", digest=digest, ready=len(digests), held=len(held), digests=digests, held_back=held
        )
        return digest


def approve(run: FleetRun, digest: str, by: str) -> None:
    """Record the approval of a preview of all targets; those that it holds back stay as they are. Changes the journal only.

    Raises:
        Declined: No preview of this fleet has that digest, or no target was ready in it.
    """
    state = run.state
    if not state.previews.get(digest):
        raise Declined(
            f"No preview of this fleet with a target that is ready has the digest {digest!r}.",
            where=str(run.path),
            state="Nothing was changed.",
            safe_next="Take a preview with `runbook fleet plan`, read it, and approve its digest.",
        )
    if state.approved != digest:
        run.journal.append("fleet-approved", digest=digest, by=by)


def require_approved(run: FleetRun) -> None:
    """See that a preview with at least one target is approved. Read-only.

    Raises:
        Declined: None is.
    """
    if not run.state.ready:
        raise Declined(
            "No preview of this fleet is approved.",
            where=str(run.path),
            state="Nothing was changed.",
            safe_next=f"Read `runbook fleet status {run.path}`, then approve its preview by digest.",
        )


def apply(run: FleetRun, engine: Engine, *, only: Collection[str] = (), watch: Watch = lambda: None) -> Outcome:
    """Roll the approved targets back, wave after wave; resumes what was left. Changes the targets.

    Args:
        run: The fleet, whose previews were approved.
        engine: What carries the targets.
        only: These targets and no others, as those that failed.
        watch: Called whenever something may have changed.

    Raises:
        Declined: Nothing was approved.
        PreconditionError: Another process walks this fleet.
        AdapterError: The engine is gone; the same command resumes.
    """
    with run.folder.lock():
        require_approved(run)
        state = run.state
        with _walking(run, engine, "apply", watch) as walk:
            stopped = ""
            for number, wave in enumerate(state.waves, 1):
                names = [name for name in wave if name in state.ready and (not only or name in only)]
                if open_ := [name for name in names if run.standing(name).word not in SETTLED]:
                    round_ = _Round(walk, "apply", state.ready)
                    stopped = round_.must_stop() or shared.blocked(run.fleet.shared, names, run.standings())
                    stopped = stopped or _no_canary(run, names)
                    if stopped:
                        break
                    run.journal.append("wave-started", number=number, count=len(names))
                    begun = monotonic()
                    stopped = round_.walk(names)
                    failed = len([name for name in names if name in walk.failed])
                    seconds = round(monotonic() - begun, 3)
                    run.journal.append("wave-ended", number=number, count=len(names), failed=failed, seconds=seconds)
                if not stopped and number < len(state.waves) and (open_ or number not in state.soaked):
                    stopped = _soaked(walk, number, names)
                if stopped:
                    break
            return _ended(walk, stopped)


def undo(run: FleetRun, engine: Engine, digests: Mapping[str, str], watch: Watch = lambda: None) -> Outcome:
    """Undo targets, the last wave first, each by the digest of its undo that was approved. Changes the targets.

    Raises:
        PreconditionError: Another process walks this fleet.
        AdapterError: The engine is gone; the same command resumes.
    """
    with run.folder.lock(), _walking(run, engine, "undo", watch) as walk:
        stopped = ""
        for wave in reversed(run.state.waves):
            names = [name for name in wave if name in digests and run.standing(name).word != "undone"]
            if names and not stopped:
                stopped = shared.blocked(run.fleet.shared, names, run.standings(), undo=True)
                stopped = stopped or _Round(walk, "undo", digests).walk(names)
        return _ended(walk, stopped)


def _no_canary(run: FleetRun, wave: Sequence[str]) -> str:
    """Why a wave must not begin because no canary is rolled back, "" where it may. Read-only."""
    standings = run.standings()
    canaries = untried(run.state, standings)
    if not canaries or not {*wave} - {*canaries, shared.NAME}:
        return ""
    found = ", ".join(f"{name} is {standings[name].word}" for name in canaries)
    return f"no canary is rolled back: {found}"


def _soaked(walk: _Walk, number: int, names: Sequence[str]) -> str:
    """Wait after a wave, then check its targets again; returns why no other wave is begun, "" where one may be."""
    run, soak = walk.run, walk.run.fleet.soak
    done = [name for name in names if run.standing(name).word in DONE]
    if soak is None or not done:
        return ""
    round_, begun = _Round(walk, "check", {}), monotonic()
    while monotonic() - begun < soak.seconds:
        if stopped := round_.must_stop():
            return stopped
        sleep(min(LOOK, soak.seconds))
        walk.watch()
    if soak.checks:
        round_.walk([name for name in done if name != shared.NAME])  # the checks are those of the targets' type
    failed = {name: each.reason for name, each in run.standings().items() if name in done and each.word not in DONE}
    run.journal.append("soaked", number=number, seconds=round(monotonic() - begun, 3), failed=failed)
    return round_.must_stop()


def _ended(walk: _Walk, stopped: str) -> Outcome:
    run = walk.run
    by_failures = bool(stopped) and walk.by_failures
    stopped = walk.too_many_failed() if by_failures else stopped  # those under way may have failed since
    found = outcome.of(run.state, run.standings(), stopped, by_failures=by_failures)
    run.journal.append("fleet-outcome", status=found.status, summary=found.summary, exit_code=found.exit_code)
    archive.write(run)
    return found


@dataclass
class _Walk:
    """What one process does with a fleet, from its first target to its last."""

    run: FleetRun
    engine: Engine
    watch: Watch
    ended: set[str] = field(default_factory=set)  # the targets that ended in this walk, of which failures are counted
    given_up: set[str] = field(default_factory=set)  # those whose workers were lost too often
    signal: str = ""  # the name of the signal that asked this process to end
    by_failures: bool = False  # whether no other target is begun because too many failed

    @property
    def failed(self) -> list[str]:
        """The targets that failed in this walk; one whose result is unknown counts."""
        names = [name for name in self.run.state.targets if name in self.given_up or name in self.ended]
        return [name for name in names if name in self.given_up or self.run.standing(name).has_failed]

    def too_many_failed(self) -> str:
        """Why no other target is begun after the failures so far, "" where one may be."""
        failed, most = self.failed, self.run.fleet.max_failures
        if shared.NAME in failed:
            return "what all targets share could not be rolled back"
        if len(failed) <= most:
            return ""
        names = ", ".join(failed[:NAMED]) + (f" and {len(failed) - NAMED} more" if len(failed) > NAMED else "")
        return f"{len(failed)} target{'s' * (len(failed) != 1)} failed ({names}), and max_failures is {most}"


@contextmanager
def _walking(run: FleetRun, engine: Engine, action: Action, watch: Watch) -> Iterator[_Walk]:
    """Have the first SIGINT or SIGTERM end the walk in good order, and the second at once."""
    walk = _Walk(run, engine, watch)
    run.journal.append("fleet-walking", action=action, engine=engine.name, pid=os.getpid())
    if threading.current_thread() is not threading.main_thread():
        yield walk
        return

    def heed(number: int, frame: object) -> None:
        if walk.signal:
            raise KeyboardInterrupt
        walk.signal = signal.Signals(number).name

    before = {number: signal.signal(number, heed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield walk
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Round:
    """One action on some targets: as many of each server at once as the fleet allows."""

    def __init__(self, walk: _Walk, action: Action, digests: Mapping[str, str]) -> None:
        self.run, self.engine, self.action, self.digests = walk.run, walk.engine, action, digests
        self._walk = walk
        self._under_way: dict[str, Task] = {}
        self._tries = Counter[str]()
        self._held = set[str]()  # targets on which other processes act
        self._asked: dict[str, Request] = {}  # target -> the latest request for the time between its steps
        self._passed_on: dict[str, tuple[Request, str]] = {}  # target -> the latest request, and the step that got it

    def walk(self, names: Sequence[str]) -> str:
        """Bring each target on; returns why it stopped before the last, "" where it did not."""
        pending, stopped = [name for name in names if self._is_open(name)], ""
        try:
            while pending or self._under_way:
                stopped = stopped or self.must_stop(bool(pending))
                if not stopped and self._request != "pause":
                    self._begin(pending)
                if stopped and not self._under_way:
                    return stopped
                self._heed()
                for ended in self.engine.ended(LOOK):
                    self._forget(ended.task.target)
                    self._walk.ended.add(ended.task.target)
                    if self._must_look_again(ended):
                        pending.append(ended.task.target)
                self._walk.watch()
        except AdapterError as error:
            for name in self._under_way:
                if self._is_open(name):
                    self.run.journal.append("fleet-lost", target=name, why=error.what)
            raise
        return stopped

    def must_stop(self, are_pending: bool = True) -> str:
        """Why no other target is begun, "" where one may be; if none is pending, only what ends those under way counts."""
        state, fleet = self.run.state, self.run.fleet
        if self._walk.signal:
            return f"it was interrupted by {self._walk.signal}"
        if self.action == "preview":
            return ""
        if state.request == "abort":
            return "it was aborted on request"
        if self.action == "undo" or not are_pending:
            return ""
        begun = state.deadline_from or state.began
        if fleet.deadline and (datetime.now(UTC) - begun).total_seconds() > fleet.deadline:
            return f"its deadline of {fleet.deadline} s has passed"
        failures = self._walk.too_many_failed()
        self._walk.by_failures = bool(failures)
        return failures

    def _begin(self, pending: list[str]) -> None:
        """Hand in as many targets as their servers have room for; those that wait long for a lock leave room for others."""
        state, at_once = self.run.state, self.run.fleet.at_once
        waiting = {name for name in self._under_way if _waits_long(self.run.standing(name))}
        under_way = Counter(state.targets[name]["server"] for name in self._under_way)
        busy = Counter(state.targets[name]["server"] for name in self._under_way if name not in waiting)
        for name in [*pending]:
            server = state.targets[name]["server"]
            if busy[server] < at_once and under_way[server] < ROOM * at_once and not self._is_held(name):
                self.engine.submit(task := self._task(name))
                busy[server] += 1
                under_way[server] += 1
                pending.remove(name)
                self._under_way[name] = task

    def _is_held(self, name: str) -> bool:
        """Whether another process acts on a target, as one does that an earlier walk left; it is waited for."""
        by = RunFolder(self.run.child(name).parent).held_by()
        if by and name not in self._held:
            self._held.add(name)
            self.run.journal.append("fleet-waiting", target=name, why=f"another process acts there: {by}")
        return bool(by)

    def _task(self, name: str) -> Task:
        state, soak = self.run.state, self.run.fleet.soak
        by = state.approved_by or str(state.opened["operator"])
        checks = tuple(soak.checks) if soak and self.action == "check" else ()
        return Task(name, str(self.run.child(name)), self.action, self.digests.get(name, ""), by, checks)

    def _is_open(self, name: str) -> bool:
        """Whether there is anything to do with a target."""
        word = self.run.standing(name).word
        match self.action:
            case "undo":
                return word != "undone"
            case "check":
                return word in DONE
            case _:
                return word not in SETTLED

    def _must_look_again(self, ended: Ended) -> bool:
        """Whether a target is to be handed in again: nothing says how the action ended, and it was not tried too often."""
        name = ended.task.target
        each = self.run.standing(name)
        answers = {"preview": ("previewed", "held back"), "check": (*DONE, *FAILED), "undo": ("undone", *FAILED, "declined")}
        answered = each.word in answers.get(self.action, (*SETTLED, *FAILED, "declined", "held back")) or each.stopped
        if not (ended.lost or ended.error) and (answered or self._request == "abort"):
            return False
        if self._is_held(name):
            return True
        self._tries[name] += 1
        self.run.journal.append("fleet-lost", target=name, why=ended.error or "it ended without a word")
        if not self._is_open(name):
            return False
        if self._tries[name] == TRIES:
            self._walk.given_up.add(name)
        return self._tries[name] < TRIES

    def _heed(self) -> None:
        """Pass requests on, and journal once that a signal asks this process to end."""
        if self._walk.signal and self.run.state.interrupted != self._walk.signal:
            self.run.journal.append("fleet-interrupted", signal=self._walk.signal, targets=[*self._under_way])
        self._pass_on()

    @property
    def _request(self) -> Request:
        if self._walk.signal:
            return "abort"
        return "resume" if self.action == "preview" else self.run.state.request  # a preview changes nothing

    def _forget(self, name: str) -> None:
        """Count a target as under way no more; whoever acts on it next knows of no request."""
        del self._under_way[name]
        self._asked.pop(name, None)
        self._passed_on.pop(name, None)

    def _pass_on(self) -> None:
        """Have the targets under way pause, resume or abort with the fleet: before their next step, and within one that
        works in batches. One that cannot yet is asked again.
        """
        request = self._request
        if request == "resume" and not self._passed_on and not self._asked:
            return
        for name in self._under_way:
            if request != self._asked.get(name, "resume") and requests(self.run.child(name)).request(request):
                self._asked[name] = request
            step = self.run.standing(name).step
            known, at = self._passed_on.get(name, ("resume", step))
            if request == known and (at == step or request == "resume"):
                continue
            child = RunFolder(self.run.child(name))
            with suppress(PreconditionError):  # nothing acts there now, or not in batches
                by = self._walk.signal or self.run.state.requested_by
                request_control(child, Journal(child.journal_path), request, by)
                self._passed_on[name] = request, step


def _waits_long(each: Standing) -> bool:
    return bool(each.waits_since and (datetime.now(UTC) - each.waits_since).total_seconds() > LONG_WAIT)
