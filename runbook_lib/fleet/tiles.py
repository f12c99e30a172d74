"""The board of a fleet in a notebook: a tile a target in its wave, colour and word, then what failed and why. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from runbook_lib.fleet import FleetState, board
from runbook_lib.fleet.standing import DONE, FAILED, Standing, Word
from runbook_lib.ui import display
from runbook_lib.ui.display import COLOURS, Shown

NEUTRAL = "color:#424a53;background:#eaeef2"
LOOKS: Mapping[Word, tuple[str, str]] = {  # a symbol and a colour, each with its own background: for any theme
    **dict.fromkeys(DONE, ("✔", COLOURS["PASS"])),
    **dict.fromkeys(FAILED, ("✘", COLOURS["FAIL"])),
    **dict.fromkeys(("held back", "declined"), ("⊘", COLOURS["UNKNOWN"])),
    "begun": ("►", "color:#0550ae;background:#ddf4ff"),
    "undone": ("↺", NEUTRAL),
}
OTHER = ("·", NEUTRAL)
WAVE = "display:grid;grid-template-columns:5em minmax(0,1fr);margin:4px 0"
TILES = "display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5em,1fr));gap:4px"
TILE = "padding:2px 8px;border-radius:4px;font-size:12px;line-height:1.35;overflow-wrap:anywhere"
MOST_TILES = 60  # targets of a fleet in which each has a tile; in a larger one those without trouble are counted
MOST_REASONS = 20
COUNTED = (*DONE, "previewed", "pending", "undone")


def tiles(state: FleetState, standings: Mapping[str, Standing]) -> Shown:
    """Show every target in its wave, how fast the fleet is, and why targets failed or were held back."""
    lines = board.headline(state, standings)
    waves, text = "", []
    for number, wave in enumerate(state.waves, 1):
        found = [*_wave([standings[name] for name in wave], len(standings) > MOST_TILES)]
        inside = "".join(html for html, _ in found)
        waves += f'<div style="{WAVE}"><b>Wave {number}</b><div style="{TILES}">{inside}</div></div>'
        text.append(f"Wave {number}: {', '.join(said for _, said in found)}")
    html = "".join(f"<div>{escape(line)}</div>" for line in lines)
    return display.side_by_side(Shown(html + waves, "\n".join([*lines, *text])), *_reasons(standings))


def _wave(found: Sequence[Standing], counts: bool) -> Iterator[tuple[str, str]]:
    """The tiles of a wave, each as HTML and as text."""
    counted = Counter(each.word for each in found if counts and each.word in COUNTED)
    for word, count in counted.items():
        yield _tile(f"{count} targets", word), f"{count} {word}"
    for each in found:
        if each.word not in counted:
            place = f" {each.done} of {each.of}" if each.word == "begun" and each.of else ""
            yield _tile(each.target, each.word, place), f"{each.target} {each.word}{place}"


def _tile(name: str, word: Word, place: str = "") -> str:
    symbol, colour = LOOKS.get(word, OTHER)
    return f'<div style="{TILE};{colour}">{escape(name)}<br><b>{symbol} {word}{place}</b></div>'


def _reasons(standings: Mapping[str, Standing]) -> Iterator[Shown]:
    """Why targets are not rolled back, the failed ones first."""
    bad = [each for word in (*FAILED, "declined", "held back") for each in standings.values() if each.word == word]
    if bad:
        looks = [LOOKS[each.word] for each in bad[:MOST_REASONS]]
        rows = [[f"{look[0]} {each.word}", each.target, each.reason] for look, each in zip(looks, bad, strict=False)]
        yield display.table("Not rolled back", ["state", "target", "why"], rows, [colour for _, colour in looks])
    if len(bad) > MOST_REASONS:
        yield display.line(f"{len(bad) - MOST_REASONS} more: `runbook fleet status` lists all.")
