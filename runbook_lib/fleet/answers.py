"""Answer what a reader of a fleet asks first: what happened, is it over, what was lost, what is pending. Pure."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from runbook_lib.fleet import FleetState, board
from runbook_lib.fleet.standing import DONE, FAILED, Standing
from runbook_lib.journal.event import clock

NAMED = 10  # targets of a list on the first screen; the table has all
LONGEST = 240  # characters of a reason there
NUMBER = re.compile(r"\d+")
TONES = {
    "verified": "good",
    **dict.fromkeys(("failed", "unknown"), "bad"),
    **dict.fromkeys(("waived", "held back", "ended"), "odd"),
}  # all other words are calm
SYMBOLS = {"verified": "✔", "waived": "▲", "failed": "✘", "unknown": "?", "held back": "‖", "undone": "↶", "begun": "▶"}


@dataclass(frozen=True)
class Answer:
    """One question of a reader, with sentences, a list, and the commands that come next, each with its purpose."""

    question: str
    sentences: Sequence[str]
    items: Sequence[str] = ()
    commands: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Lost:
    """What the rollback of one target lost, as far as it was counted, and what is not known."""

    counted: Sequence[str] = field(default_factory=tuple)
    unknown: Sequence[str] = field(default_factory=tuple)

    def text(self) -> str:
        """All of it in one line."""
        return "; ".join([*self.counted, *(f"not known: {each}" for each in self.unknown)]) or "nothing"


def answers(
    path: str, state: FleetState, standings: Mapping[str, Standing], lost: Mapping[str, Lost], held_by: str = ""
) -> list[Answer]:
    """Answer the four questions from the journals. Pure.

    Args:
        path: The fleet's folder, as a command takes it.
        state: What the fleet's journal says.
        standings: What each target's journal says.
        lost: What was lost, for each target with an effect of its run.
        held_by: The process that acts in the fleet now, "" for none.
    """
    return [
        _what_happened(state, standings),
        _is_over(state, standings, held_by),
        _what_was_lost(standings, lost),
        _what_is_pending(path, state, standings, held_by),
    ]


def _what_happened(state: FleetState, standings: Mapping[str, Standing]) -> Answer:
    opened = state.opened
    where = f"Rollback of {opened['plan']} on {_targets(len(standings))} in {len(state.waves)} waves"
    sentences = [f"{where}: {board.counted(standings)}."]
    times = [each.began for each in standings.values() if each.began]
    ends = [each.ended for each in standings.values() if each.ended]
    if times and ends:
        sentences.append(f"First step to last outcome: {clock(max(0.0, (max(ends) - min(times)).total_seconds()))}.")
    if state.outcome and "; " in str(state.outcome["summary"]):
        sentences.append(f"It stopped: {str(state.outcome['summary']).partition('; ')[2]}.")
    failed = [pair for found in state.soaked.values() for pair in found.items()]
    sentences += [f"After its wave, {name} did not pass its checks: {_short(why)}" for name, why in failed[:NAMED]]
    if state.lost:
        lost = f"{_targets(len(state.lost))} lost the worker: {_names(state.lost)}"
        sentences.append(f"{lost}. The journal and a probe decided how each continued.")
    return Answer("What happened?", sentences)


def _is_over(state: FleetState, standings: Mapping[str, Standing], held_by: str) -> Answer:
    question, words = "Is it over?", Counter(each.word for each in standings.values())
    status = str((state.outcome or {}).get("status", ""))
    if held_by:
        expected = board.pace(state, standings)
        acts = f"No. A process acts in this fleet now ({held_by})."
        return Answer(question, [acts, f"{expected}."] if expected else [acts])
    if status == "finished" and words["waived"]:
        waived = [name for name, each in standings.items() if each.word == "waived"]
        return Answer(question, [f"Not quite. Waived steps and checks are not verified, on: {_names(waived)}."])
    if sum(words[word] for word in DONE) == len(standings):
        return Answer(question, ["Yes. Every target is rolled back and verified."])
    if status == "undone":
        return Answer(question, ["Yes. Every target that was rolled back was undone."])
    if not any(each.touched for each in standings.values()):
        why = "nobody approved it" if not state.approved else "it was approved, and no step was begun"
        return Answer(question, [f"No. No target is rolled back: {why}."])
    done, touched = sum(words[word] for word in DONE), sum(each.touched for each in standings.values())
    mixed = f"{done} of {_targets(len(standings))} rolled back, {touched - done} changed and not finished or undone"
    return Answer(question, [f"No. The targets differ: {mixed}, {len(standings) - touched} unchanged."])


def _what_was_lost(standings: Mapping[str, Standing], lost: Mapping[str, Lost]) -> Answer:
    question = "What was lost?"
    touched = [name for name, each in standings.items() if each.touched]
    counted = {name: lost[name].counted for name in touched if name in lost and lost[name].counted}
    unknown = {name: lost[name].unknown for name in touched if name in lost and lost[name].unknown}
    unknown |= {name: ["its journal or plan cannot be read"] for name in touched if name not in lost}
    if not touched:
        return Answer(question, ["Nothing: no target was changed."])
    if not counted and not unknown:
        return Answer(question, [f"Nothing: no loss was counted on the {_targets(len(touched))} that changed."])
    sentences = []
    if counted:
        sentences.append(f"Counted, in all, on {_targets(len(counted))}: {'; '.join(summed(counted.values()))}.")
    if unknown:
        sentences.append(f"Not known on {_targets(len(unknown))}; see “All targets”.")
    lines = {name: [*counted.get(name, ()), *(f"not known: {each}" for each in unknown.get(name, ()))] for name in touched}
    items = [f"{name}: {'; '.join(found)}" for name, found in lines.items() if found]
    return Answer(question, sentences, _first(items, NAMED // 2))


def _what_is_pending(path: str, state: FleetState, standings: Mapping[str, Standing], held_by: str) -> Answer:
    sentences, items = list[str](), list[str]()
    for title, words in (
        ("failed", FAILED),
        ("held back", ("held back",)),
        ("declined", ("declined",)),
        ("begun, without an outcome", ("begun",)),
        ("not begun", ("pending", "previewed")),
    ):
        found = [each for each in standings.values() if each.word in words]
        if found:
            sentences.append(f"{_targets(len(found))} {title}: {_names(each.target for each in found)}.")
            items += _first([f"{each.target}: {each.word}: {_short(each.reason)}" for each in found if each.reason])
    commands = board.ways(path, state, standings, held_by)
    if cleanup := [each for each in standings.values() if each.pending]:
        number = sum(each.pending for each in cleanup)
        sentences.append(
            f"Pending cleanup: {number} {'item' if number == 1 else 'items'} on {_targets(len(cleanup))}. "
            "The command previews it and deletes nothing without approval."
        )
        first = cleanup[0].target
        purge = shlex.join(["runbook", "purge", f"{path}/{state.targets[first]['run']}"])
        more = f"; {len(cleanup) - 1} more in “All targets”" if len(cleanup) > 1 else ""
        commands = [*commands, (f"To clean up {first}{more}", purge)]
    return Answer("What is pending?", sentences or ["Nothing."], items, commands)


def summed(lines: Iterable[Sequence[str]]) -> list[str]:
    """Add up lines that differ in their first number alone, in the order in which they come first. Pure.

    >>> summed([["3 rows of orders", "a view"], ["4 rows of orders"]])
    ['7 rows of orders', 'a view']
    """
    found = dict[str, int]()
    for line in (each for of_one in lines for each in of_one):
        number = NUMBER.search(line)
        pattern = NUMBER.sub("{}", line, count=1) if number else line
        found[pattern] = found.get(pattern, 0) + (int(number[0]) if number else 0)
    return [pattern.replace("{}", str(total), 1) for pattern, total in found.items()]


def _targets(number: int) -> str:
    return f"{number} target{'' if number == 1 else 's'}"


def _names(names: Iterable[str]) -> str:
    known = [*names]
    return ", ".join(known[:NAMED]) + (f" and {len(known) - NAMED} more" if len(known) > NAMED else "")


def _first(items: Sequence[str], most: int = NAMED) -> list[str]:
    more = len(items) - most
    return [*items[:most], *([f"{more} more: see “All targets”"] if more > 0 else [])]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
