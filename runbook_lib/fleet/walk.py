"""Walks a fleet: all previews at once, then wave after wave, as many targets of a server at once as its file allows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic, sleep

from runbook_lib.errors import Declined, PreconditionError
from runbook_lib.fleet import FleetRun, digest_of, outcome, shared
from runbook_lib.fleet.child import Action, Task
from runbook_lib.fleet.engines import Ended, Engine
from runbook_lib.fleet.outcome import Outcome
from runbook_lib.fleet.standing import DONE, FAILED, SETTLED
from runbook_lib.journal import Journal
from runbook_lib.journal.control import Request, request_control
from runbook_lib.journal.folder import RunFolder

TRIES = 3  # how often a target whose worker was lost is looked at again
LOOK = 0.5  # seconds between two looks at what was requested

Watch = Callable[[], object]  # is called whenever something may have changed


def preview(run: FleetRun, engine: Engine, watch: Watch = lambda: None) -> str:
    """Preview every target that nothing was done to; returns the digest that approves those that are ready. Read-only.

    Raises:
        PreconditionError: Another process walks this fleet.
    """
    with run.folder.lock():
        run.journal.append("fleet-walking", action="preview", engine=engine.name, pid=os.getpid())
        names = [name for name, each in run.standings().items() if not each.touched and each.word not in SETTLED]
        _Round(run, engine, "preview", {}, watch).walk(names)
        standings = run.standings()
        digests = {name: standings[name].digest for name in names if standings[name].word == "previewed"}
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


def apply(run: FleetRun, engine: Engine, *, only: Collection[str] = (), watch: Watch = lambda: None) -> Outcome:
    """Roll the approved targets back, wave after wave; resumes what was left. Changes the targets.

    Args:
        run: The fleet, whose previews were approved.
        engine: What carries the targets.
        only: These targets and no others, as those that failed.
        watch: Called whenever something may have changed.

    Raises:
        Declined: Nothing was approved.
        PreconditionError: Another process walks this fleet, or it was aborted and not resumed.
    """
    with run.folder.lock():
        state = run.state
        if not state.ready:
            raise Declined(
                "No preview of this fleet is approved.",
                where=str(run.path),
                state="Nothing was changed.",
                safe_next="Take a preview with `runbook fleet plan`, read it, and approve its digest.",
            )
        run.journal.append("fleet-walking", action="apply", engine=engine.name, pid=os.getpid())
        stopped, ended = "", set[str]()
        for number, wave in enumerate(state.waves, 1):
            names = [name for name in wave if name in state.ready and (not only or name in only)]
            if [name for name in names if run.standings()[name].word not in SETTLED]:
                if stopped := shared.blocked(run.fleet.shared, names, run.standings()):
                    break
                run.journal.append("wave-started", number=number, count=len(names))
                begun = monotonic()
                stopped = _Round(run, engine, "apply", state.ready, watch, ended).walk(names)
                failed = [name for name in names if run.standings()[name].word in FAILED]
                seconds = round(monotonic() - begun, 3)
                run.journal.append("wave-ended", number=number, count=len(names), failed=len(failed), seconds=seconds)
                stopped = stopped or (_soaked(run, engine, number, names, watch, ended) if number < len(state.waves) else "")
            if stopped:
                break
        return _ended(run, stopped)


def undo(run: FleetRun, engine: Engine, digests: Mapping[str, str], watch: Watch = lambda: None) -> Outcome:
    """Undo targets, the last wave first, each by the digest of its undo that was approved. Changes the targets.

    Raises:
        PreconditionError: Another process walks this fleet.
    """
    with run.folder.lock():
        run.journal.append("fleet-walking", action="undo", engine=engine.name, pid=os.getpid())
        stopped = ""
        for wave in reversed(run.state.waves):
            names = [name for name in wave if name in digests and run.standings()[name].word != "undone"]
            if names and not stopped:
                stopped = shared.blocked(run.fleet.shared, names, run.standings(), undo=True)
                stopped = stopped or _Round(run, engine, "undo", digests, watch).walk(names)
        return _ended(run, stopped)


def _soaked(run: FleetRun, engine: Engine, number: int, names: Sequence[str], watch: Watch, ended: set[str]) -> str:
    """Wait after a wave, then check its targets again; returns why no other wave is begun, "" where one may be."""
    soak = run.fleet.soak
    if soak is None:
        return ""
    round_, begun = _Round(run, engine, "check", {}, watch, ended), monotonic()
    while monotonic() - begun < soak.seconds:
        if stopped := round_.must_stop():
            return stopped
        sleep(min(LOOK, soak.seconds))
        watch()
    done = [name for name in names if run.standings()[name].word in DONE]
    if soak.checks:
        round_.walk(done)
    failed = {name: each.reason for name, each in run.standings().items() if name in done and each.word not in DONE}
    run.journal.append("soaked", number=number, seconds=round(monotonic() - begun, 3), failed=failed)
    return round_.must_stop()


def _ended(run: FleetRun, stopped: str) -> Outcome:
    found = outcome.of(run.state, run.standings(), stopped)
    run.journal.append("fleet-outcome", status=found.status, summary=found.summary, exit_code=found.exit_code)
    return found


class _Round:
    """One action on some targets: as many of each server at once as the fleet allows."""

    def __init__(
        self,
        run: FleetRun,
        engine: Engine,
        action: Action,
        digests: Mapping[str, str],
        watch: Watch,
        ended: set[str] | None = None,
    ) -> None:
        """`ended`: the targets that ended since this process began to walk, of which failures are counted."""
        self.run, self.engine, self.action, self.digests, self.watch = run, engine, action, digests, watch
        self._ended = set[str]() if ended is None else ended
        self._under_way: dict[str, Task] = {}
        self._tries = Counter[str]()
        self._passed_on: dict[str, Request] = {}

    def walk(self, names: Sequence[str]) -> str:
        """Bring each target on; returns why it stopped before the last, "" where it did not."""
        pending, stopped = [name for name in names if self._is_open(name)], ""
        while pending or self._under_way:
            stopped = stopped or self.must_stop()
            if not stopped and (self.run.state.request != "pause" or self.action == "preview"):
                self._begin(pending)
            if stopped and not self._under_way:
                return stopped
            for ended in self.engine.ended(LOOK):
                del self._under_way[ended.task.target]
                self._passed_on.pop(ended.task.target, None)
                self._ended.add(ended.task.target)
                if self._must_look_again(ended):
                    pending.append(ended.task.target)
            self._pass_on()
            self.watch()
        return stopped

    def must_stop(self) -> str:
        """Why no other target is begun, "" where one may be."""
        state, fleet = self.run.state, self.run.fleet
        if self.action == "preview":
            return ""
        if state.request == "abort":
            return "it was aborted on request"
        if self.action == "undo":
            return ""
        if fleet.deadline and (datetime.now(UTC) - state.began).total_seconds() > fleet.deadline:
            return f"its deadline of {fleet.deadline} s has passed"
        failed = [name for name, each in self.run.standings().items() if each.word in FAILED and name in self._ended]
        if shared.NAME in failed:
            return "what all targets share could not be rolled back"
        if len(failed) > fleet.max_failures:
            return f"{len(failed)} targets failed, and max_failures is {fleet.max_failures}"
        return ""

    def _begin(self, pending: list[str]) -> None:
        """Hand in as many targets as their servers have room for."""
        state, at_once = self.run.state, self.run.fleet.at_once
        busy = Counter(state.targets[name]["server"] for name in self._under_way)
        for name in [*pending]:
            server = state.targets[name]["server"]
            if busy[server] < at_once:
                busy[server] += 1
                pending.remove(name)
                self._under_way[name] = self._task(name)
                self.engine.submit(self._under_way[name])

    def _task(self, name: str) -> Task:
        state, soak = self.run.state, self.run.fleet.soak
        by = state.approved_by or str(state.opened["operator"])
        checks = tuple(soak.checks) if soak and self.action == "check" else ()
        return Task(name, str(self.run.child(name)), self.action, self.digests.get(name, ""), by, checks)

    def _is_open(self, name: str) -> bool:
        """Whether there is anything to do with a target."""
        word = self.run.standings()[name].word
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
        word = self.run.standings()[name].word
        answers = {"preview": ("previewed", "held back"), "check": (*DONE, *FAILED)}
        answered = word in answers.get(self.action, (*SETTLED, *FAILED, "declined", "held back"))
        if not (ended.lost or ended.error) and answered:
            return False
        self._tries[name] += 1
        self.run.journal.append("fleet-lost", target=name, why=ended.error or "it ended without a word")
        return self._tries[name] < TRIES and self._is_open(name)

    def _pass_on(self) -> None:
        """Have the steps under way pause, resume or abort with the fleet; tried again until a step takes it."""
        state = self.run.state
        for name in self._under_way:
            if state.request != self._passed_on.get(name, "resume"):
                child = RunFolder(self.run.child(name))
                with suppress(PreconditionError):  # nothing acts there now, or not in batches
                    request_control(child, Journal(child.journal_path), state.request, state.approved_by)
                    self._passed_on[name] = state.request
