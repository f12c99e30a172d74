"""All the cases, or some of them: each on a stack of its own, compared with the same rollback left alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import monotonic, sleep

from runbook_lib.config.plan import Plan
from runbook_lib.headless import kernel
from runbook_lib.journal import Journal
from runbook_lib.journal.event import Event
from runbook_lib.rehearsal.chaos.picture import Picture, differences, lost, picture
from runbook_lib.rehearsal.chaos.points import (
    TRIALS,
    Case,
    Kill,
    Point,
    Trial,
    Victim,
    cases,
    points,
    reached,
    step_of,
    write_plan,
)
from runbook_lib.rehearsal.stack import Stack, stack
from runbook_lib.rehearsal.workspace import MARK, TARGET, StackError, kill_marked, marked, settled_in, until
from runbook_lib.run import Run, lifecycle, undo
from runbook_lib.system.signals import end_with_parent, ending_signals_raise
from runbook_lib.ui.progress import Report


class Victims:
    """The processes of a command that bears a mark, and the server of its stack."""

    def __init__(self, up: Stack, mark: Path, main: int) -> None:
        self.up, self.mark, self.main = up, mark, main
        self._found: dict[Victim, int] = {"main process": main}

    def find(self, victim: Victim) -> bool:
        """Look for a victim beforehand, so that it can be killed at once; say whether it is there. Read-only."""
        if victim not in self._found:
            pid = self._kernel() if victim == "kernel" else self._server() if victim == "PostgreSQL" else self.main
            if pid:
                self._found[victim] = pid
        return victim in self._found

    def kill(self, victim: Victim) -> bool:
        """Send SIGKILL; say whether there was anybody left to send it to."""
        if victim == "whole tree":
            return any([_killed(pid) for pid in (self.main, *marked(self.mark))])
        return self.find(victim) and _killed(self._found[victim])

    def _kernel(self) -> int:
        name = kernel.__name__.encode()
        return next((pid for pid in marked(self.mark) if name in _command(pid)), 0)

    def _server(self) -> int:
        return int(self.up.supervisor.call("getProcessInfo", "postgres")["pid"])


def _command(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def _killed(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


ROWS = 600
TRIES = 6  # of the same command, after which a run counts as refused
PAUSE = 0.3  # seconds between two of them
LOOK = 0.001  # seconds between two looks at the journal
HANGS = 120.0  # seconds that a command may take
LINGERS = 3.0  # seconds that processes of an ended run may take to be gone
RUNBOOK = str(Path(sys.executable).with_name("runbook"))
OF_A_STEP = ("started", "found", "applied", "checked")


@dataclass(frozen=True)
class Ended:
    """How a run ended: what it left, how often its command was given, and what was seen on the way."""

    picture: Picture
    well: bool  # whether the last command ended with 0
    tries: int
    kills: list[float | None]  # for each that hit: seconds to the first step of the command given again, if there was one
    seconds: float
    points: list[Point] = field(default_factory=list)
    said: str = ""  # what the last command printed


def uninterrupted(name: str) -> Ended:
    """Carry a trial out without interrupting it."""
    return _carried_out(name, ())


def interrupted(case: Case) -> Ended:
    """Carry a trial out, kill whom the case names when it says so, and give the same command again until it ends."""
    return _carried_out(case.trial, case.kills)


def _carried_out(name: str, kills: Sequence[Kill]) -> Ended:
    begun, began = monotonic(), datetime.now(UTC)
    trial = TRIALS[name]
    with stack(ROWS, trial.fault) as up, settled_in(up.environment), ExitStack() as ending:
        trial.prepare(up, ending)
        directory = up.root / "chaos"
        directory.mkdir()
        run, plan = _planned(trial, directory)
        if trial.undone:
            _Work(up, run, directory).roll_back()
        work = _Work(up, run, directory, list(kills))
        begun_with = work.since
        if trial.undone:
            work.undo()
        else:
            work.roll_back()
        left = picture(up, run, began, directory)
        kill_marked(directory)
        events = Journal(run.folder.journal_path).events()[begun_with:]
        run.close_adapters()
    return Ended(
        left,
        work.code == 0,
        work.tries,
        [_first_step(events, at) for at in work.struck],
        round(monotonic() - begun, 1),
        points(name, trial, plan, events) if not kills else [],
        work.said,
    )


def _planned(trial: Trial, directory: Path) -> tuple[Run, Plan]:
    plan = write_plan(trial, directory / "plan.yaml")
    about = {"operator": "chaos", "reason": "interrupted on purpose", "outputs": directory}
    run = lifecycle.open_new(directory / "plan.yaml", TARGET, trial.type, option=trial.option, **about)  # type: ignore[arg-type]
    for name, value in trial.choices.items():
        run.choose(name, value, "parameter")
    run.previews()
    run.close_adapters()
    return run, plan


class _Work:
    """The commands of a run, each given until it ends with 0 or refuses to resume."""

    def __init__(self, up: Stack, run: Run, directory: Path, kills: list[Kill] | None = None) -> None:
        self.up, self.run, self.directory, self.kills = up, run, directory, kills or []
        self.tries, self.code, self.said = 0, 0, ""
        self.struck: list[datetime] = []
        self.since = len(run.journal.events())  # when the command was given first, or somebody was killed last

    def roll_back(self) -> None:
        """Have the run do what its preview says. Changes the stack.

        What option C loses is counted on the way, and then approved by another digest.
        """
        first = self._latest_preview()
        self._until_it_ends(["run", "--approve", first], lambda: self._latest_preview() != first)
        if self.code:
            self._until_it_ends(["run", "--approve", self._latest_preview()], lambda: False)

    def undo(self) -> None:
        """Have all of it undone. Changes the stack."""
        digest = undo.offer(self.run).digest
        self.run.close_adapters()
        self._until_it_ends(["undo", "--approve", digest], lambda: False)

    def _until_it_ends(self, command: list[str], asks: Callable[[], bool]) -> None:
        for _ in range(TRIES + len(self.kills)):
            self.tries += 1
            with self._given(command) as process:
                victims = Victims(self.up, self.directory, process.pid)
                if kill := self._due(process, victims):
                    if victims.kill(kill.victim):
                        self.struck.append(datetime.now(UTC))
                    self.since = len(self.run.journal.events())
            self.code = process.returncode
            if self.code == 0 or (self.code == 1 and asks()):
                break
            sleep(PAUSE)
        until(lambda: not marked(self.directory), LINGERS)

    @contextmanager
    def _given(self, command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
        said = self.directory / f"said-{self.tries}.txt"
        with said.open("wb") as output:
            process = subprocess.Popen(
                [RUNBOOK, command[0], str(self.run.folder.path), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, MARK: str(self.directory)},
                start_new_session=True,
            )
            try:
                yield process
                process.wait(HANGS)
            except subprocess.TimeoutExpired:
                output.write(b"It hung and was killed.\n")
            finally:
                process.kill()
                process.wait()
        self.said = said.read_text(encoding="utf-8", errors="replace")

    def _due(self, process: "subprocess.Popen[bytes]", victims: Victims) -> Kill | None:
        """Wait for the moment of the next kill; None where the command ended before. Those passed over are let go."""
        journal = Journal(self.run.folder.journal_path)
        size = -1
        while self.kills and process.poll() is None:
            if (now := journal.path.stat().st_size) != size:
                size, events = now, journal.events()[self.since :]
                due = next((number for number, kill in enumerate(self.kills) if reached(kill.point, events)), None)
                if due is not None:
                    kill = self.kills[due]
                    del self.kills[: due + 1]
                    sleep(kill.delay)
                    return kill if process.poll() is None else None
                victims.find(self.kills[0].victim)
            sleep(LOOK)
        return None

    def _latest_preview(self) -> str:
        return self.run.state.previewed


def _first_step(events: list[Event], struck: datetime) -> float | None:
    """Seconds from a kill to the first event of a step in the notebook that was begun next."""
    begun = [e.seq for e in events if e.kind == "notebook-started" and e.time > struck]
    after = (e for e in events if e.time > struck and e.seq > min(begun, default=0))
    first = next((e.time for e in after if step_of(e) and e.kind in OF_A_STEP), None)
    return (first - struck).total_seconds() if first else None


SHOWN = 12  # lines of a difference, or of what a command printed, that are shown


@dataclass(frozen=True)
class Judged:
    """A case, how the run ended after its kills, and everything in which that differs from a run that nobody interrupted."""

    case: Case
    ended: Ended
    differences: Sequence[str]
    lost: int

    @property
    def unaided(self) -> bool:
        """Whether nothing but the same command was needed to come to the same end."""
        return self.ended.well and not self.differences


def judge(case: Case, wanted: Picture, ended: Ended) -> Judged:
    """Compare how an interrupted run ended with how it ends if left alone. Pure."""
    return Judged(case, ended, differences(wanted, ended.picture), lost(wanted, ended.picture))


def chaos(names: Sequence[str], seed: int, first: int, count: int | None, workers: int, report: Report) -> list[Judged]:
    """Run each trial once without a kill, then the cases from number `first` on, several at a time.

    Raises:
        StackError: A trial does not end well although nobody interrupts it.
    """
    with ending_signals_raise(), get_context("spawn").Pool(workers, end_with_parent) as pool:
        alone = {}
        for name, ended in zip(names, pool.imap(uninterrupted, names), strict=True):
            alone[name] = ended
            report(f"{name}: left alone, it ends in {ended.seconds} s")
            if not ended.well:
                raise StackError(
                    f"{name} does not end well although nobody interrupts it:\n{ended.said}",
                    where=name,
                    state="nobody was killed",
                    safe_next="fix what is printed there, and start again",
                )
        every = cases(seed, [point for ended in alone.values() for point in ended.points])
        chosen = every[first - 1 :][:count]
        report(f"{len(every)} cases by seed {seed}; trying {len(chosen)} from number {first} on")
        judged = []
        for case, ended in zip(chosen, pool.imap(interrupted, chosen), strict=True):
            judged.append(judge(case, alone[case.trial].picture, ended))
            report("\n".join(lines_of(judged[-1])))
    return judged


def lines_of(one: Judged) -> Iterator[str]:
    """Return a case in a line, with what is wrong below it."""
    ended = one.ended
    word = "ok" if one.unaided else "REFUSED" if not ended.well else "DIFFERS"
    missed = len(one.case.kills) - len(ended.kills)
    yield f"{word:8}{one.case}: {ended.tries} tries, {ended.seconds} s{f', {missed} came too late' if missed else ''}"
    if not one.unaided:
        yield from (f"        {line}" for line in one.differences[:SHOWN])
    if not ended.well:
        yield from (f"        | {line}" for line in ended.said.splitlines()[-SHOWN:])


def summary(judged: Sequence[Judged]) -> str:
    """Return the figures: cases, unaided, refused, lost rows, and the times to the first step after a kill. Pure."""
    times = sorted(time for one in judged for time in one.ended.kills if time is not None)
    waited = f"median {median(times):.1f} s, longest {times[-1]:.1f} s" if times else "none"
    return (
        f"{len(judged)} cases, {sum(len(one.ended.kills) for one in judged)} kills: {sum(one.unaided for one in judged)} "
        f"unaided, {sum(not one.ended.well for one in judged)} refused, "
        f"{sum(one.ended.well and not one.unaided for one in judged)} ended otherwise, "
        f"{sum(one.lost for one in judged)} rows lost or wrong\n"
        f"From a kill to the first step: {waited}"
    )
