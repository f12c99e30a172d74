"""Charts as PNG: counts before and after, and steps against their budgets; bars bear numbers, words stand beside. Pure."""

from collections.abc import Sequence

import numpy as np

from runbook_lib.plots import INK, LIMIT, LINE, SCALE, SOFT, WIDTH, Canvas, Colour, png, write

ROW, BAR, LEFT, RIGHT = 26, 9, 34, 90  # pixels
DIGIT = 4 * SCALE  # the width of a digit
OUTLINE: Colour = (110, 119, 129)

Span = tuple[float, float, float]  # a step: when it began and ended, in seconds, and its budget


def pairs(counts: Sequence[tuple[float, float]]) -> bytes:
    """Each row's count before, as an outlined bar, and after, as a filled one below it; rows are numbered from 1."""
    canvas = _canvas(len(counts))
    top = max([1.0, *(value for pair in counts for value in pair)])
    for place, (before, after) in enumerate(counts):
        y = place * ROW + 4
        write(canvas, 4, y + 4, f"{place + 1}", INK)
        for value, at, filled in ((before, y, False), (after, y + BAR + 1, True)):
            width = _width(value, top)
            _bar(canvas, LEFT, at, width, LINE if filled else OUTLINE, filled=filled)
            write(canvas, LEFT + width + 4, at, f"{value:.0f}", INK)
    return png(canvas)


def spans(steps: Sequence[Span]) -> bytes:
    """Each step as a bar over the time since the first began, in seconds; its budget is outlined, what is over it red."""
    canvas = _canvas(len(steps))
    top = max([1.0, *(max(end, begin + budget) for begin, end, budget in steps)])
    for place, (begin, end, budget) in enumerate(steps):
        y = place * ROW + 4
        write(canvas, 4, y + 4, f"{place + 1}", INK)
        left, within = LEFT + _width(begin, top), min(end, begin + budget)
        _bar(canvas, left, y, _width(budget, top), OUTLINE, filled=False, height=2 * BAR)
        _bar(canvas, left, y + 4, _width(within - begin, top), LINE, filled=True)
        if end > within:
            _bar(canvas, LEFT + _width(within, top), y + 4, _width(end - within, top), LIMIT, filled=True)
        at = LEFT + _width(max(end, begin + budget), top) + 4
        write(canvas, min(at, WIDTH - RIGHT + 4), y + 4, f"{end - begin:.1f} s", INK)
    return png(canvas)


def _canvas(rows: int) -> Canvas:
    canvas = np.full((max(rows, 1) * ROW + 8, WIDTH, 3), 255, np.uint8)
    canvas[:, LEFT - 2] = SOFT
    return canvas


def _width(value: float, top: float) -> int:
    return round((WIDTH - LEFT - RIGHT) * value / top)


def _bar(canvas: Canvas, x: int, y: int, width: int, colour: Colour, *, filled: bool, height: int = BAR) -> None:
    right, bottom = x + max(width, 1), y + height
    if filled:
        canvas[y:bottom, x:right] = colour
        return
    canvas[[y, bottom - 1], x:right] = colour
    canvas[y:bottom, [x, right - 1]] = colour
