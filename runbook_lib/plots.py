"""Plots as PNG, drawn here: a line with its limit, small enough for an archive. Pure."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT, SCALE = 640, 240, 2  # pixels; each pixel of a digit is SCALE wide and high
LEFT, RIGHT, TOP, BOTTOM = 70, 12, 12, 30
INK, SOFT, LINE, LIMIT = (28, 36, 48), (221, 226, 232), (9, 105, 218), (207, 34, 46)
GLYPHS = {  # three wide, five high, a row a digit in octal
    "0": 0o75557, "1": 0o26227, "2": 0o71747, "3": 0o71717, "4": 0o55711, "5": 0o74717, "6": 0o74757, "7": 0o71122,
    "8": 0o75757, "9": 0o75717, ".": 0o00002, "m": 0o07755, "s": 0o03636, " ": 0o00000, "-": 0o00700,
}  # fmt: skip

Canvas = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]


def line(values: Sequence[float], limit: float, unit: str, ends: tuple[float, float], ends_in: str = "") -> bytes:
    """The values as a line over their order, and the limit as a dashed one; the axes bear numbers.

    Args:
        values: What was measured, in `unit`; each is marked.
        limit: What they may be at most.
        unit: "ms" or "s".
        ends: What stands below the first and the last value.
        ends_in: The unit of those.
    """
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    top = max([limit * 1.25, *values]) or 1.0
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    xs = [LEFT + round(across * (n / max(len(values) - 1, 1))) for n in range(len(values))]
    ys = [TOP + down - round(down * value / top) for value in values]
    for share in (0.0, 0.5, 1.0):
        y = TOP + down - round(down * share)
        canvas[y, LEFT : WIDTH - RIGHT] = SOFT
        write(canvas, 4, y - 5, f"{top * share:.0f} {unit}", INK)
    at = TOP + down - round(down * limit / top)
    for x in range(LEFT, WIDTH - RIGHT, 12):
        canvas[at - 1 : at + 1, x : x + 7] = LIMIT
    canvas[TOP : TOP + down, LEFT] = INK
    for (x0, y0), (x1, y1) in zip(zip(xs, ys, strict=True), list(zip(xs, ys, strict=True))[1:], strict=False):
        _stroke(canvas, x0, y0, x1, y1)
    for x, y, value in zip(xs, ys, values, strict=True):
        canvas[max(y - 3, 0) : y + 4, x - 3 : x + 4] = LIMIT if value > limit else LINE
    first, last = (f"{end:g} {ends_in}".strip() for end in ends)
    write(canvas, LEFT, HEIGHT - 20, first, INK)
    write(canvas, WIDTH - RIGHT - 4 * SCALE * len(last), HEIGHT - 20, last, INK)
    return png(canvas)


def png(canvas: Canvas) -> bytes:
    """The pixels (height, width, 3) as a PNG file."""
    height, width, _ = canvas.shape
    rows = np.hstack([np.zeros((height, 1), np.uint8), canvas.reshape(height, -1)])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _stroke(canvas: Canvas, x0: int, y0: int, x1: int, y1: int) -> None:
    steps = max(abs(x1 - x0), abs(y1 - y0), 1)
    xs = np.linspace(x0, x1, steps + 1).round().astype(int)
    ys = np.linspace(y0, y1, steps + 1).round().astype(int)
    for thick in (0, 1):
        canvas[np.clip(ys + thick, 0, HEIGHT - 1), xs] = LINE


def write(canvas: Canvas, x: int, y: int, text: str, colour: Colour) -> None:
    """Write digits and units onto the pixels, from their upper left corner on."""
    for place, character in enumerate(text):
        bits = GLYPHS.get(character, 0)
        for n in range(15):
            if bits >> (14 - n) & 1:
                left, up = x + (place * 4 + n % 3) * SCALE, y + n // 3 * SCALE
                canvas[up : up + SCALE, left : left + SCALE] = colour
