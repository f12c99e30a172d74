"""What is shown of a fleet: its preview summed up in a pandas table, and a row a target while it is walked. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runbook_lib.fleet import FleetState
from runbook_lib.fleet.standing import DONE, FAILED, Standing
from runbook_lib.journal.event import clock

if TYPE_CHECKING:
    import pandas as pd

COLOURS: dict[str, str] = {
    **dict.fromkeys(DONE, "green"),
    **dict.fromkeys(FAILED, "red"),
    "begun": "blue",
    "held back": "yellow",
    "declined": "yellow",
}  # a word has no colour of its own where none is here
BOARD = ["target", "server", "state", "step", "took", "why"]


def preview_table(state: FleetState, standings: Mapping[str, Standing]) -> pd.DataFrame:
    """A row a target, outliers first: those held back, then by the rows that change; columns: state, rows, loses, seconds.

    A target whose rows differ most from the median comes before others.
    """
    import pandas as pd

    found = [standings[name] for name in state.targets]
    rows = [each.rows for each in found if each.word == "previewed"]
    middle = sorted(rows)[len(rows) // 2] if rows else 0
    ordered = sorted(found, key=lambda each: (each.word != "held back", -abs(each.rows - middle), each.target))
    return pd.DataFrame(
        {
            "target": [each.target for each in ordered],
            "server": [state.targets[each.target]["server"] for each in ordered],
            "state": [each.word for each in ordered],
            "rows": [each.rows for each in ordered],
            "loses": ["; ".join(each.loses) for each in ordered],
            "seconds": [each.estimate for each in ordered],
            "why": [each.reason for each in ordered],
        }
    )


def totals(state: FleetState, standings: Mapping[str, Standing]) -> list[str]:
    """The preview of all in a few lines: how many are ready, what changes, what is lost, what is held back."""
    ready = [each for each in standings.values() if each.word == "previewed"]
    held = [each for each in standings.values() if each.word == "held back"]
    lost = [each for each in ready if each.loses]
    lines = [
        f"{len(ready)} of {len(standings)} targets are ready, in {len(state.waves)} waves: "
        + ", ".join(str(len(wave)) for wave in state.waves),
        f"Rows that change: {sum(each.rows for each in ready)} in all.",
        f"Users lose something on {len(lost)} targets." if lost else "Users lose nothing that is counted.",
    ]
    if held:
        lines.append(f"Held back, and left as they are: {', '.join(each.target for each in held)}.")
    return lines


def board_rows(state: FleetState, standings: Mapping[str, Standing]) -> list[list[str]]:
    """A row a target in the order of the waves, as `BOARD` names its cells."""
    return [
        [
            name,
            str(state.targets[name]["server"]),
            standings[name].word,
            _step(standings[name]),
            "" if standings[name].seconds is None else clock(standings[name].seconds or 0),
            standings[name].reason if standings[name].word not in DONE else "",
        ]
        for wave in state.waves
        for name in wave
    ]


def headline(state: FleetState, standings: Mapping[str, Standing]) -> list[str]:
    """Where the fleet is: how many stand how, the rate, and when it should end."""
    words = Counter(each.word for each in standings.values())
    ended = [each.ended for each in standings.values() if each.ended and each.word in DONE]
    lines = [f"{state.opened['fleet']}: " + ", ".join(f"{count} {word}" for word, count in words.most_common())]
    left = sum(words[word] for word in ("previewed", "begun")) if state.approved else 0
    if ended and left and state.walked and not state.outcome:
        rate = len(ended) / max((max(ended) - state.began).total_seconds(), 0.001)
        lines.append(f"{rate * 60:.1f} targets a minute; {left} left, about {clock(left / rate)}")
    if state.request != "resume":
        lines.append({"pause": "PAUSED", "abort": "ABORTED"}[state.request] + " on request")
    if state.outcome:
        lines.append(f"{str(state.outcome['status']).upper()}: {state.outcome['summary']}")
    return lines


def ways_on(path: str, state: FleetState, standings: Mapping[str, Standing]) -> list[str]:
    """The commands that come next, by name; for a mixed fleet both: on to the end, and back."""
    words = Counter(each.word for each in standings.values())
    touched = [each for each in standings.values() if each.touched]
    if not state.approved:
        digest = state.previewed
        return [f"runbook fleet run {path} --approve {digest}"] if state.previews.get(digest) else []
    ways = []
    if state.request != "resume":
        ways.append(f"runbook fleet resume {path}")
    if sum(words[word] for word in DONE) < len(standings) and words["undone"] < len(standings):
        ways.append(f"To finish: runbook fleet run {path}" + (" --retry-failed" if any(words[w] for w in FAILED) else ""))
    if touched:
        ways.append(f"To undo those done: runbook fleet undo {path}")
    return ways


def as_json(path: str, state: FleetState, standings: Mapping[str, Standing]) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "fleet": path,
        "name": state.opened["fleet"],
        "digest": state.previewed,
        "approved": state.approved,
        "request": state.request,
        "waves": state.waves,
        "held_back": dict(state.held_back),
        "targets": {name: _plain(each) | dict(state.targets[name]) for name, each in standings.items()},
        "outcome": state.outcome,
        "next": ways_on(path, state, standings),
    }


def _plain(each: Standing) -> dict[str, Any]:
    return {
        "state": each.word,
        "step": each.step,
        "done": each.done,
        "of": each.of,
        "rows": each.rows,
        "loses": list(each.loses),
        "seconds": each.seconds,
        "reason": each.reason,
        "pending_cleanup": each.pending,
    }


def _step(each: Standing) -> str:
    return f"{each.done} of {each.of}" + (f", {each.step}" if each.word == "begun" else "") if each.of else ""
