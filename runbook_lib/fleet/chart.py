"""Draw the waves of a fleet as SVG: a bar a target over time, outliers by name, the others summed up. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from statistics import median

from runbook_lib.fleet import FleetState
from runbook_lib.fleet.answers import SYMBOLS, TONES
from runbook_lib.fleet.standing import Standing
from runbook_lib.journal.event import clock

WIDTH, NAMES, NOTES = 1080, 210, 200  # pixels: the chart, the room left of the bars, and right of them
ROW, LINE, HEAD = 20, 4, 26  # pixels: a named row, a line of a summed up target, a wave's heading
MOST_NAMED = 30  # targets of a fleet in which each has a name
MOST_OUTLIERS = 20  # named of one wave
SLOW = 3  # times the median: then a target is named
CALM = ("verified", "undone", "previewed", "pending")  # summed up where there are many
LONGEST = 26  # characters of a name


def waves(state: FleetState, standings: Mapping[str, Standing], latest: datetime) -> str:
    """Draw each wave with its targets; a target under way ends at the latest event."""
    begins = [each.began for each in standings.values() if each.began]
    first = min(begins, default=state.began)
    last = max([latest, *(each.ended for each in standings.values() if each.ended)])
    whole = max((last - first).total_seconds(), 1.0)
    took = [each.seconds for each in standings.values() if each.seconds is not None]
    slow = SLOW * median(took) if took else 0.0
    parts, y = list[str](), 0

    def place(moment: datetime) -> float:
        return NAMES + (WIDTH - NAMES - NOTES) * (moment - first).total_seconds() / whole

    for number, wave in enumerate(state.waves, 1):
        parts.append(_text(0, y + 17, f"Wave {number}: {len(wave)} target{'s' * (len(wave) != 1)}", kind="head"))
        y += HEAD
        named, others = _split([standings[name] for name in wave], slow, every=len(standings) <= MOST_NAMED)
        for each in named:
            parts += [_text(NAMES - 10, y + 14, _short(each.target), "end"), *_bar(each, place, last, y + 4, 12)]
            parts.append(_text(WIDTH - NOTES + 10, y + 14, _note(each)))
            y += ROW
        for word, found in others.items():
            parts.append(_text(NAMES - 10, y + 14, f"{SYMBOLS.get(word, '·')} {len(found)} {word}", "end"))
            for place_, each in enumerate(found):
                parts += _bar(each, place, last, y + 2 + place_ * LINE, LINE - 1)
            if times := [each.seconds for each in found if each.seconds is not None]:
                parts.append(_text(WIDTH - NOTES + 10, y + 14, f"median {clock(median(times))}, most {clock(max(times))}"))
            y += max(ROW, len(found) * LINE + 6)
        y += 4
    axis = [
        f'<line x1="{NAMES}" y1="{y}" x2="{WIDTH - NOTES}" y2="{y}" class="axis"/>',
        *(_text(NAMES + (WIDTH - NAMES - NOTES) * share, y + 16, clock(whole * share), "middle") for share in (0, 0.5, 1)),
        _text(NAMES + (WIDTH - NAMES - NOTES) / 2, y + 34, f"since {first:%Y-%m-%d %H:%M:%S} UTC", "middle"),
    ]
    label = f"The waves of {escape(str(state.opened['fleet']), quote=True)} over time"
    size = f'viewBox="0 0 {WIDTH} {y + 42}" width="{WIDTH}" height="{y + 42}"'
    return f'<svg class="waves" role="img" aria-label="{label}" {size}>{"".join([*parts, *axis])}</svg>'


def _split(wave: Sequence[Standing], slow: float, *, every: bool) -> tuple[list[Standing], dict[str, list[Standing]]]:
    """The targets that get a row each, outliers first, and the others by their word."""
    order = sorted(wave, key=lambda each: (TONES.get(each.word) not in ("bad", "odd"), each.began is None, str(each.began)))
    if every:
        return [*wave], {}
    outliers = [each for each in order if each.word not in CALM or (each.seconds or 0) > slow][:MOST_OUTLIERS]
    others = dict[str, list[Standing]]()
    for each in order:
        if each not in outliers:
            others.setdefault(each.word, []).append(each)
    return outliers, others


def _bar(each: Standing, place: Callable[[datetime], float], last: datetime, y: float, height: float) -> Iterator[str]:
    if each.began is None:
        return
    begin, end = place(each.began), place(each.ended or last)
    tone = "doing" if each.word == "begun" else TONES.get(each.word, "calm")
    size = f'x="{begin:.1f}" y="{y:g}" width="{max(end - begin, 2):.1f}" height="{height:g}"'
    yield f'<rect class="{tone}" {size}><title>{escape(each.target)}: {escape(_note(each))}</title></rect>'


def _note(each: Standing) -> str:
    took = "" if each.seconds is None else f", {clock(each.seconds)}"
    return f"{SYMBOLS.get(each.word, '·')} {each.word}{took}"


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
