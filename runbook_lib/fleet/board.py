"""What is shown of a fleet: its preview in a pandas table, a row a target while it is walked, and what comes next. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from runbook_lib.fleet import FleetState
from runbook_lib.fleet.outcome import untried
from runbook_lib.fleet.standing import DONE, FAILED, SETTLED, Standing
from runbook_lib.fleet.waves import CANARIES
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
MOST_ROWS = 30  # targets of a fleet in which each has a row; of a larger one only those that need attention
ATTENTION = ("begun", "failed", "unknown", "held back", "declined", "waived")
BOARD = ["target", "server", "state", "step", "took", "why"]


def preview_table(state: FleetState, standings: Mapping[str, Standing], most: int | None = None) -> pd.DataFrame:
    """A row a target, outliers first: those held back, then by the rows that change; columns: state, rows, loses, seconds.

    A target whose rows differ most from the median comes before others. `most` limits the rows.
    """
    import pandas as pd

    found = [standings[name] for name in state.targets]
    rows = [each.rows for each in found if each.word == "previewed"]
    middle = sorted(rows)[len(rows) // 2] if rows else 0
    ordered = sorted(found, key=lambda each: (each.word != "held back", -abs(each.rows - middle), each.target))[:most]
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
        names = ", ".join(each.target for each in held[:MOST_ROWS])
        more = f" and {len(held) - MOST_ROWS} more" if len(held) > MOST_ROWS else ""
        lines.append(f"Held back and unchanged: {names}{more}.")
    canaries = untried(state, standings)
    if canaries and not [name for name in canaries if standings[name].word == "previewed"]:
        lines.append(f"No canary is ready ({', '.join(canaries)}), so no other target would begin.")
    return lines


def board_rows(state: FleetState, standings: Mapping[str, Standing]) -> list[list[str]]:
    """A row a target in the order of the waves, as `BOARD` names its cells; of a large fleet those that need attention."""
    names = [name for wave in state.waves for name in wave]
    if len(names) > MOST_ROWS:
        names = [name for name in names if standings[name].word in ATTENTION]
    return [
        [
            name,
            str(state.targets[name]["server"]),
            standings[name].word,
            _step(standings[name]),
            "" if standings[name].seconds is None else clock(standings[name].seconds or 0),
            standings[name].reason if standings[name].word not in DONE else "",
        ]
        for name in names
    ]


def counted(standings: Mapping[str, Standing]) -> str:
    """How many targets have each state, the most frequent first."""
    words = Counter(each.word for each in standings.values())
    return ", ".join(f"{count} {word}" for word, count in words.most_common())


def headline(state: FleetState, standings: Mapping[str, Standing]) -> list[str]:
    """Where the fleet is: how many targets have each state, the rate, and when the last should end."""
    words = Counter(each.word for each in standings.values())
    ended = [each.ended for each in standings.values() if each.ended and each.word in DONE]
    lines = [f"{state.opened['fleet']}: {counted(standings)}"]
    left = sum(words[word] for word in ("previewed", "begun")) if state.approved else 0
    if ended and left and state.walked and not state.outcome:
        rate = len(ended) / max((max(ended) - state.began).total_seconds(), 0.001)
        end = max(ended) + timedelta(seconds=left / rate)
        lines.append(f"{rate * 60:.1f} targets a minute; {left} left, about {clock(left / rate)}, until {end:%H:%M:%S} UTC")
    if state.request != "resume":
        lines.append({"pause": "PAUSED", "abort": "ABORTED"}[state.request] + " on request")
    if state.outcome:
        lines.append(f"{str(state.outcome['status']).upper()}: {state.outcome['summary']}")
    return lines


def ways(path: str, state: FleetState, standings: Mapping[str, Standing], held_by: str = "") -> list[tuple[str, str]]:
    """The commands that come next, each after its purpose; for a mixed fleet both: finish, and undo.

    `held_by` is the process that acts in the fleet now, "" for none.
    """

    def of(targets: Collection[object]) -> str:
        return f"{len(targets)} target{'s' * (len(targets) != 1)}"

    def command(name: str, *more: str) -> str:
        return shlex.join(["runbook", "fleet", name, path, *more])

    if held_by:
        paused = [("To resume", command("resume"))] if state.request != "resume" else [("To pause", command("pause"))]
        return [*paused, ("To abort", command("abort"))]
    words = Counter(each.word for each in standings.values())
    open_ = [each for name, each in standings.items() if name in state.ready and each.word not in (*SETTLED, "held back")]
    left = [each for each in standings.values() if not each.touched and each.word not in SETTLED and each not in open_]
    newer = state.previews.get(state.previewed, {}) if state.previewed != state.approved else {}
    found = [(f"To clear the {state.request} first", command("resume"))] if state.request != "resume" else []
    half_undone = [name for name in state.undone_by if standings[name].word == "begun"]
    if state.undo and any(each.touched for each in standings.values()) and (words["undone"] or half_undone):
        found.append(("To resume the undo", command("undo", "--approve", state.undo)))
    canaries = untried(state, standings)
    if open_ and (not canaries or [each for each in open_ if each.target in canaries]):
        found.append((f"To finish {of(open_)}", command("run")))
    elif open_:
        found.append((f"To roll back {of(open_)} without a canary", command("run", "--waive", f"{CANARIES}: REASON")))
    if open_ and words["failed"] + words["unknown"] not in (0, len(open_)):
        found.append(("To retry only those that failed", command("run", "--retry-failed")))
    if newer and left:
        found.append((f"To roll back {of(newer)} as previewed", command("run", "--approve", state.previewed)))
    elif left:
        found.append((f"To preview {of(left)} again, with the causes fixed", command("plan")))
    if any(each.touched for each in standings.values()):
        found.append(("To undo those that changed", command("undo")))
    return found


def ways_on(path: str, state: FleetState, standings: Mapping[str, Standing], held_by: str = "") -> list[str]:
    """The same as lines: a purpose, then its command on a line of its own."""
    return [line for purpose, command in ways(path, state, standings, held_by) for line in (f"{purpose}:", command)]


def as_json(path: str, state: FleetState, standings: Mapping[str, Standing], held_by: str = "") -> dict[str, Any]:
    """The same as plain values."""
    return {
        "fleet": path,
        "name": state.opened["fleet"],
        "digest": state.previewed,
        "approved": state.approved,
        "request": state.request,
        "held_by": held_by,
        "waves": state.waves,
        "held_back": dict(state.held_back),
        "targets": {name: _plain(each) | dict(state.targets[name]) for name, each in standings.items()},
        "outcome": state.outcome,
        "next": [command for _, command in ways(path, state, standings, held_by)],
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
