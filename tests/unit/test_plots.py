"""A plot is a picture that a browser reads, with the limit where it belongs."""

import struct
import zlib

import numpy as np

from runbook_lib import plots


def pixels(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    body = png[png.index(b"IDAT") + 4 : png.index(b"IEND") - 8]
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()  # no filter
    return rows[:, 1:].reshape(height, width, 3)


def height_of(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float(np.argwhere((picture == colour).all(axis=2))[:, 0].mean())


def test_values_above_the_limit_stand_above_its_line_and_others_below() -> None:
    low = pixels(plots.line([10, 20, 10], 250, "ms", (1, 3)))
    high = pixels(plots.line([900, 900, 900], 250, "ms", (1, 3)))

    assert height_of(low, plots.LINE) > height_of(low, plots.LIMIT)
    assert height_of(high, plots.LINE) < plots.HEIGHT / 3


def test_one_value_or_none_can_be_plotted() -> None:
    assert pixels(plots.line([5], 250, "ms", (1, 1))).shape == (plots.HEIGHT, plots.WIDTH, 3)
    assert pixels(plots.line([], 0, "ms", (0, 0), "s")).shape == (plots.HEIGHT, plots.WIDTH, 3)
