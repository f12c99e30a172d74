"""Where a rollback is interrupted: at each event of its journal and in between, in an order that a seed decides. Pure."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psycopg
import yaml

from runbook_lib.config.plan import Plan
from runbook_lib.documents import load_plan, resolved
from runbook_lib.journal.event import Event
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.rehearsal.workspace import PLAN

LOADED = ("latency",)  # kinds of check that measure the machine's load instead of the rollback
LOADED_OR_PAGE = re.compile(rf"page|{'|'.join(LOADED)}")


def _nothing(up: Stack, ending: ExitStack) -> None:
    """Leave the stack as it came up."""


def _lose_media(up: Stack, ending: ExitStack) -> None:
    _asked(up, "UPDATE messages SET media_url = NULL WHERE id % 6 = 0")


def _write_since_the_backup(up: Stack, ending: ExitStack) -> None:
    _asked(up, "INSERT INTO users (name) SELECT 'Newcomer ' || n FROM generate_series(1, 40) n")
    messages = "INSERT INTO messages (conversation_id, sender_id, content) SELECT n, 1, 'Written since'"
    _asked(up, f"{messages} FROM generate_series(1, 20) n")


def _take_later_work_away(up: Stack, ending: ExitStack) -> None:
    """Have nothing lie on top of the feature, so that it can be reset away."""
    directory = up.root / "frontend"
    up.supervisor.stop("frontend")
    for command in (["git", "reset", "--hard", "HEAD^"], ["git", "push", "--force"], [sys.executable, "build.py"]):
        subprocess.run(command, cwd=directory, capture_output=True, check=True)
    up.supervisor.start("frontend")


def _leave_session_open(up: Stack, ending: ExitStack) -> None:
    """Stop the services and leave a session with a lock in the way of a restore."""
    up.supervisor.stop("frontend", "worker", "backend")
    session = psycopg.connect(up.database.conninfo(up.database.application))
    ending.callback(session.close)
    session.execute("LOCK TABLE messages")


def _asked(up: Stack, statement: str) -> None:
    with psycopg.connect(up.database.conninfo(up.database.application), autocommit=True) as connection:
        connection.execute(statement.encode())


@dataclass(frozen=True)
class Trial:
    """A rollback on a stack: its type and option, what is chosen, the fault, and what is done to the stack before."""

    type: str
    option: str = "A"
    choices: Mapping[str, str] = field(default_factory=dict)
    fault: str = "all-media-missing"
    touch: bool = True  # whether the plan has the time of change of each changed row set
    prepare: Callable[[Stack, ExitStack], None] = _nothing
    undone: bool = False  # whether it is not the rollback that is interrupted, but its undo


TRIALS: Mapping[str, Trial] = {
    "batched": Trial("full", choices={"STRATEGY": "batched"}),
    "keyed": Trial("full", choices={"STRATEGY": "keyed"}),
    "swap": Trial("full", choices={"STRATEGY": "swap"}, touch=False),
    "quarantine": Trial("full", "B", {"REMOVAL": "quarantine"}),
    "drop": Trial("full", "B", {"REMOVAL": "drop"}),
    "restore": Trial("full", "C"),
    "carry": Trial("restore", "C", {"SALVAGE": "carry"}, fault="corrupt-data", prepare=_write_since_the_backup),
    "quick": Trial("frontend", fault="frontend-errors"),
    "reset": Trial("frontend", choices={"CODE": "reset"}, fault="frontend-errors", prepare=_take_later_work_away),
    "part": Trial("missing-column", fault="none", prepare=_lose_media),
    "rebuild": Trial("rebuild-frontend", fault="frontend-errors"),
    "sessions": Trial("end-sessions", fault="none", prepare=_leave_session_open),
    "undo-batched": Trial("full", choices={"STRATEGY": "batched"}, undone=True),
    "undo-swap": Trial("full", choices={"STRATEGY": "swap"}, touch=False, undone=True),
    "undo-quarantine": Trial("full", "B", {"REMOVAL": "quarantine"}, undone=True),
    "undo-drop": Trial("full", "B", {"REMOVAL": "drop"}, undone=True),
    "undo-restore": Trial("full", "C", undone=True),
    "undo-part": Trial("missing-column", fault="none", prepare=_lose_media, undone=True),
}


def write_plan(trial: Trial, file: Path) -> Plan:
    """Write the plan of rehearsals without the checks that need a browser or an idle machine."""
    plan: dict[str, Any] = resolved(PLAN)
    for rollback in plan["types"].values():
        rollback["checks"] = [name for name in rollback.get("checks", []) if _is_kept(plan, name)]
    for trouble in plan["troubles"].values():
        trouble["signs"] = [name for name in trouble["signs"] if _is_kept(plan, name)]
    if not trial.touch:
        plan["backfills"][0]["touch_column"] = None
    file.write_text(yaml.safe_dump(plan, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return load_plan(file)


def _is_kept(plan: Mapping[str, Any], check: str) -> bool:
    return not LOADED_OR_PAGE.match(plan["checks"][check]["kind"])


Victim = Literal["main process", "kernel", "whole tree", "PostgreSQL"]
VICTIMS: Sequence[Victim] = ("main process", "kernel", "whole tree", "PostgreSQL")
WITHOUT_KERNEL = tuple(victim for victim in VICTIMS if victim != "kernel")
MOMENTS = ("at", "after")  # as soon as the event is in the journal, and at a random moment before the next one
AT_ONCE = ("checked", "chosen", "evidence")  # one after another without anything in between
IN_A_ROW = 3  # kills of a case
OFTEN = 2  # of an event that comes again and again within a step, the first ones represent all


@dataclass(frozen=True)
class Point:
    """An event of a trial's journal: the step that it belongs to, its kind, and the how manieth of these it is."""

    trial: str
    step: str  # "" outside of the steps
    kind: str
    number: int
    gap: float  # seconds until the next event, in a run that nobody interrupted
    place: int  # in the order of the trial's events
    role: str  # the kind of step, and what was chosen of it: the same role in another trial need not be tried as well
    victims: Sequence[Victim] = VICTIMS  # who is there to be killed

    def __str__(self) -> str:
        return f"{self.step or 'run'}, {self.kind} {self.number}"


@dataclass(frozen=True)
class Kill:
    """Who is killed, at which point, and how many seconds after it."""

    point: Point
    victim: Victim
    delay: float

    def __str__(self) -> str:
        return f"{self.victim} at {self.point}{f' + {self.delay * 1000:.0f} ms' if self.delay else ''}"


@dataclass(frozen=True)
class Case:
    """A trial, and the kills that interrupt it, each once the command was given again after the one before."""

    number: int
    trial: str
    kills: tuple[Kill, ...]

    def __str__(self) -> str:
        return f"{self.number}. {self.trial}: {'; '.join(map(str, self.kills))}"


def step_of(event: Event) -> str:
    """Return the step that an event belongs to, "" for none."""
    if event.kind == "checked":
        before, _, step = event.data["round"].partition(":")
        return step if before in ("step", "before") else ""
    return str(event.data.get("step", ""))


def kind_of(event: Event) -> str:
    """Return the kind of an event, with the round of a check that belongs to no step."""
    if event.kind != "checked":
        return event.kind
    return f"checked {event.data['round'].partition(':')[0]}"


def key_of(event: Event) -> tuple[str, str]:
    """Return the step and the kind of an event."""
    return step_of(event), kind_of(event)


def points(name: str, trial: Trial, plan: Plan, events: Iterable[Event]) -> list[Point]:
    """Return the points of a trial, by the events that its commands journal where nobody interrupts them."""
    found: list[Point] = []
    seen: dict[tuple[str, str], int] = {}
    at_once = bursts(events)
    for burst, following in zip(at_once, [*at_once[1:], at_once[-1]], strict=True):
        step, kind = key_of(burst[0])
        seen[step, kind] = number = seen.get((step, kind), 0) + 1
        if number <= OFTEN:
            gap = (following[0].time - burst[-1].time).total_seconds()
            victims = VICTIMS if kind != "notebook-ended" and not trial.undone else WITHOUT_KERNEL
            role = f"undo {_role(plan, trial.choices, step)}" if trial.undone else _role(plan, trial.choices, step)
            found.append(Point(name, step, kind, number, max(gap, 0.0), len(found), role, victims))
    return found


def cases(seed: int, found: Iterable[Point]) -> list[Case]:
    """Return every case, in an order that the seed decides."""
    made: list[Case] = []
    waiting: dict[str, list[Kill]] = {}
    for kill in _kills(seed, found):
        together = waiting.setdefault(kill.point.trial, [])
        if kill.point.place in [other.point.place for other in together] or len(together) == IN_A_ROW:
            made.append(_case(len(made) + 1, waiting.pop(kill.point.trial)))
            together = waiting.setdefault(kill.point.trial, [])
        together.append(kill)
    return [*made, *(_case(number, left) for number, left in enumerate(waiting.values(), len(made) + 1))]


def _case(number: int, kills: Iterable[Kill]) -> Case:
    in_order = sorted(kills, key=lambda kill: kill.point.place)
    return Case(number, in_order[0].point.trial, tuple(in_order))


def _kills(seed: int, found: Iterable[Point]) -> Iterator[Kill]:
    """Return each point with each victim, at once and later; all points come once before one comes again."""
    by_role: dict[tuple[str, str, int], list[Point]] = {}
    for point in found:
        by_role.setdefault((point.role, point.kind, point.number), []).append(point)
    ordered = sorted(by_role, key=lambda role: _drawn(seed, *map(str, role)))
    for turn in range(len(MOMENTS) * len(VICTIMS)):
        for role in ordered:
            rounds = [(victim, moment) for moment in MOMENTS for victim in by_role[role][0].victims]
            if turn < len(rounds):
                first = int(_drawn(seed, "first", *map(str, role)) * len(rounds))
                victim, moment = rounds[(first + turn * 5) % len(rounds)]  # by 5: another moment and another victim
                where = min(by_role[role], key=lambda point: _drawn(seed, victim, moment, point.trial, str(point)))
                late = _drawn(seed, "delay", victim, where.trial, str(where))
                yield Kill(where, victim, where.gap * late if moment == "after" else 0.0)


WAYS = {"STRATEGY": "strategy", "REMOVAL": "mode"}  # choice -> the key of a step by which it goes one way or another


def _role(plan: Plan, choices: Mapping[str, str], step: str) -> str:
    spec = plan.steps.get(step)
    ways = [choices.get(choice, getattr(spec, key)) for choice, key in WAYS.items() if hasattr(spec, key)]
    return " by ".join([spec.kind, *ways]) if spec else ""


def _drawn(seed: int, *words: str) -> float:
    """Return a number from 0 to below 1 that depends on nothing but these."""
    digest = hashlib.sha256("\0".join([str(seed), *words]).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def bursts(events: Iterable[Event]) -> list[list[Event]]:
    """Return the events in order, those together that are journaled in one go."""
    found: list[list[Event]] = []
    for event in events:
        if found and event.kind in AT_ONCE and key_of(event) == key_of(found[-1][0]):
            found[-1].append(event)
        else:
            found.append([event])
    return found


def reached(point: Point, events: Iterable[Event]) -> bool:
    """Check whether the events since a command was given first, or the last kill, have come to a point."""
    keys = [key_of(burst[0]) for burst in bursts(events)]
    return keys.count((point.step, point.kind)) >= point.number
