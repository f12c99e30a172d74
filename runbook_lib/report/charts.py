"""Draw charts as SVG, with names and units on their axes, small enough for an archive. Pure."""

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 640, 240  # pixels
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 14, 44  # pixels around a line chart
ROW, BAR, NAMES, NUMBERS = 30, 10, 240, 90  # pixels: a row of a bar chart, a bar, and the room next to the bars
MOST = 38  # characters of a name
INK, SOFT, LINE, LIMIT, OUTLINE = "#1c2430", "#dde2e8", "#0969da", "#cf222e", "#6e7781"

Count = tuple[str, float, float]  # a row's name, its count before, and after
Span = tuple[str, float, float, float]  # a step's title, when it began and ended, and its budget, in seconds


def line(values: Sequence[tuple[float, float]], limit: float, *, across: str, up: str) -> str:
    """Draw measurements over time or order, with their limit as a dashed line; values over it are red.

    Args:
        values: Place and value of each measurement, in order.
        limit: What the values may be at most.
        across: What the places are, with their unit.
        up: What the values are, with their unit.

    Example:
        >>> line([(1, 20.0), (2, 300.0)], 250, across="request", up="ms").startswith("<svg")
        True
    """
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    top = max([limit * 1.25, *(value for _, value in values)]) or 1.0
    first, last = (values[0][0], values[-1][0]) if values else (0.0, 0.0)

    def x(place: float) -> float:
        return LEFT + wide * (place - first) / ((last - first) or 1)

    def y(value: float) -> float:
        return TOP + high - high * value / top

    parts = [
        part
        for share in (0.0, 0.5, 1.0)
        for part in (
            _stroke(LEFT, y(top * share), WIDTH - RIGHT, y(top * share), SOFT),
            _text(LEFT - 6, y(top * share) + 4, f"{top * share:.0f}", "end"),
        )
    ]
    points = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in values)
    parts += [
        _stroke(LEFT, TOP, LEFT, TOP + high, INK),
        _stroke(LEFT, y(limit), WIDTH - RIGHT, y(limit), LIMIT, ' stroke-dasharray="7 5" stroke-width="2"'),
        _text(WIDTH - RIGHT, y(limit) - 5, f"limit {limit:g}", "end"),
        f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="2"/>',
        *(
            f'<circle cx="{x(place):.1f}" cy="{y(value):.1f}" r="3" fill="{LIMIT if value > limit else LINE}"/>'
            for place, value in values
        ),
        _text(LEFT, HEIGHT - 26, f"{first:g}", "middle"),
        _text(WIDTH - RIGHT, HEIGHT - 26, f"{last:g}", "end"),
        _text(LEFT + wide / 2, HEIGHT - 8, across, "middle"),
        f'<g transform="rotate(-90 14 {TOP + high / 2})">{_text(14, TOP + high / 2, up, "middle")}</g>',
    ]
    return _svg(HEIGHT, parts)


def pairs(counts: Sequence[Count]) -> str:
    """Draw each row's count before as an outlined bar, and after as a filled bar below it."""
    top = max([1.0, *(value for _, before, after in counts for value in (before, after))])
    parts = []
    for place, (name, before, after) in enumerate(counts):
        y = place * ROW + 4.0
        parts += [
            _text(NAMES - 8, y + BAR + 5, _short(name), "end"),
            _bar(0, before / top, y, OUTLINE, filled=False),
            _text(_at(before / top) + 5, y + 9, f"{before:.0f}"),
            _bar(0, after / top, y + BAR + 2, LINE, filled=True),
            _text(_at(after / top) + 5, y + BAR + 11, f"{after:.0f}"),
        ]
    return _rows(len(counts), "rows", parts)


def spans(steps: Sequence[Span]) -> str:
    """Draw each step as a bar over the time since the first began; its budget is outlined, time over it is red."""
    top = max([1.0, *(max(end, begin + budget) for _, begin, end, budget in steps)])
    parts = []
    for place, (name, begin, end, budget) in enumerate(steps):
        y, within = place * ROW + 4.0, min(end, begin + budget)
        over = [_bar(within / top, end / top, y + 5, LIMIT, filled=True)] if end > within else []
        parts += [
            _text(NAMES - 8, y + BAR + 5, _short(name), "end"),
            _bar(begin / top, (begin + budget) / top, y, OUTLINE, filled=False, height=2 * BAR),
            _bar(begin / top, within / top, y + 5, LINE, filled=True),
            *over,
            _text(min(_at(max(end, begin + budget) / top), WIDTH - NUMBERS) + 5, y + BAR + 5, f"{end - begin:.1f} s"),
        ]
    return _rows(len(steps), "seconds since the first step began", parts)


def _rows(number: int, across: str, parts: Sequence[str]) -> str:
    bottom = max(number, 1) * ROW + 8
    axis = _stroke(NAMES, 0, NAMES, bottom, INK)
    return _svg(bottom + 22, [axis, *parts, _text((NAMES + WIDTH - NUMBERS) / 2, bottom + 14, across, "middle")])


def _svg(height: float, parts: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}"'
    ground = f'<rect width="{WIDTH}" height="{height:g}" fill="#ffffff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return f"{head}{ground}{''.join(parts)}</svg>\n"


def _at(share: float) -> float:
    return NAMES + (WIDTH - NAMES - NUMBERS) * share


def _bar(begin: float, end: float, y: float, colour: str, *, filled: bool, height: float = BAR) -> str:
    ink = f'fill="{colour}"' if filled else f'fill="none" stroke="{colour}"'
    return f'<rect x="{_at(begin):.1f}" y="{y:g}" width="{max(_at(end) - _at(begin), 1):.1f}" height="{height}" {ink}/>'


def _stroke(x0: float, y0: float, x1: float, y1: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}"{more}/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= MOST else f"{name[: MOST - 1]}…"
