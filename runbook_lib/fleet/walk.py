"""Walks a fleet: all previews at once, then wave after wave, as many targets of a server at once as its file allows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from runbook_lib.errors import Declined
from runbook_lib.fleet import FleetRun, digest_of, outcome
from runbook_lib.fleet.child import Action, Task
from runbook_lib.fleet.engines import Ended, Engine
from runbook_lib.fleet.outcome import Outcome
from runbook_lib.fleet.standing import DONE, FAILED, SETTLED

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
        stopped = ""
        for number, wave in enumerate(state.waves, 1):
            names = [name for name in wave if name in state.ready and (not only or name in only)]
            if not [name for name in names if run.standings()[name].word not in SETTLED]:
                continue
            run.journal.append("wave-started", number=number, count=len(names))
            begun = monotonic()
            stopped = _Round(run, engine, "apply", state.ready, watch).walk(names)
            failed = [name for name in names if run.standings()[name].word in FAILED]
            seconds = round(monotonic() - begun, 3)
            run.journal.append("wave-ended", number=number, count=len(names), failed=len(failed), seconds=seconds)
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
            stopped = stopped or _Round(run, engine, "undo", digests, watch).walk([n for n in wave if n in digests])
        return _ended(run, stopped)


def _ended(run: FleetRun, stopped: str) -> Outcome:
    found = outcome.of(run.state, run.standings(), stopped)
    run.journal.append("fleet-outcome", status=found.status, summary=found.summary, exit_code=found.exit_code)
    return found


@dataclass
class _Round:
    """One action on some targets: as many of each server at once as the fleet allows."""

    run: FleetRun
    engine: Engine
    action: Action
    digests: Mapping[str, str]
    watch: Watch

    def walk(self, names: Sequence[str]) -> str:
        """Bring each target on; returns why it stopped before the last, "" where it did not."""
        pending, under_way = [name for name in names if self._is_open(name)], dict[str, Task]()
        tries, stopped = Counter[str](), ""
        while pending or under_way:
            stopped = stopped or self._must_stop()
            if not stopped and self.run.state.request != "pause":
                self._begin(pending, under_way)
            if stopped and not under_way:
                return stopped
            for ended in self.engine.ended(LOOK):
                name = ended.task.target
                del under_way[name]
                if self._is_open(name) and not self._is_answered(name, ended):
                    tries[name] += 1
                    self.run.journal.append("fleet-lost", target=name, why=ended.error or "it ended without a word")
                    if tries[name] < TRIES:
                        pending.append(name)
            self._pass_on(under_way)
            self.watch()
        return stopped

    def _begin(self, pending: list[str], under_way: dict[str, Task]) -> None:
        """Hand in as many targets as their servers have room for."""
        state, at_once = self.run.state, self.run.fleet.at_once
        busy = Counter(state.targets[name]["server"] for name in under_way)
        for name in [*pending]:
            server = state.targets[name]["server"]
            if busy[server] < at_once:
                busy[server] += 1
                pending.remove(name)
                by = state.approved_by or str(state.opened["operator"])
                under_way[name] = Task(name, str(self.run.child(name)), self.action, self.digests.get(name, ""), by)
                self.engine.submit(under_way[name])

    def _is_open(self, name: str) -> bool:
        """Whether there is anything left to do with a target."""
        word = self.run.standings()[name].word
        return word != "undone" if self.action == "undo" else word not in SETTLED

    def _is_answered(self, name: str, ended: Ended) -> bool:
        """Whether the target's journal says how the action ended, so that it need not be looked at again."""
        word = self.run.standings()[name].word
        if self.action == "preview":
            return word in ("previewed", "held back")
        return not ended.lost and word in (*DONE, *FAILED, "declined")

    def _must_stop(self) -> str:
        """Why no other target is begun, "" where one may be."""
        if self.action == "preview":
            return ""
        if self.run.state.request == "abort":
            return "it was aborted on request"
        if self.action == "apply":
            failed = [name for name, each in self.run.standings().items() if each.word in FAILED]
            if len(failed) > self.run.fleet.max_failures:
                return f"{len(failed)} targets failed, and max_failures is {self.run.fleet.max_failures}"
        return ""

    def _pass_on(self, under_way: Mapping[str, Task]) -> None:
        """Have the steps under way pause, resume or abort with the fleet."""
