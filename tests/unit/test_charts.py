"""A chart is SVG that a browser reads: names on the axes, the limit where it belongs, red only what is over it."""

import re
from xml.etree import ElementTree

import pytest

from runbook_lib.report import charts

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str, kind: str) -> list[dict[str, str]]:
    return [dict(element.attrib) for element in ElementTree.fromstring(svg).iter(f"{SVG}{kind}")]


def texts(svg: str) -> list[str]:
    return [str(element.text) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize(("value", "colour"), [(20.0, charts.LINE), (900.0, charts.LIMIT)])
def test_a_value_over_the_limit_is_above_its_line_and_red(value: float, colour: str) -> None:
    svg = charts.line([(1, value)], 250, across="request", up="milliseconds")

    (point,) = drawn(svg, "circle")
    (limit,) = [line for line in drawn(svg, "line") if line["stroke"] == charts.LIMIT]
    assert point["fill"] == colour
    assert (float(point["cy"]) < float(limit["y1"])) is (value > 250)


def test_the_axes_of_a_line_chart_are_named() -> None:
    svg = charts.line([(0, 10.0), (60, 30.0)], 250, across="seconds", up="milliseconds")

    assert {"seconds", "milliseconds", "0", "60", "limit 250"} <= set(texts(svg))


@pytest.mark.parametrize("values", [[], [(1.0, 5.0)], [(1.0, 0.0), (2.0, 0.0)]])
def test_any_values_can_be_drawn(values: list[tuple[float, float]]) -> None:
    assert len(drawn(charts.line(values, 0, across="a", up="b"), "circle")) == len(values)


@pytest.mark.parametrize(("took", "red"), [(5.0, 0), (25.0, 1)])
def test_only_what_is_over_its_budget_is_red(took: float, red: int) -> None:
    svg = charts.spans([("Back up", 0.0, took, 10.0)])

    assert [bar["fill"] for bar in drawn(svg, "rect")].count(charts.LIMIT) == red
    assert {"Back up", f"{took:.1f} s", "seconds since the first step began"} <= set(texts(svg))


@pytest.mark.parametrize("counts", [[], [("a", 0.0, 0.0)], [("a & <b>", 1e9, 0.0), ("x" * 80, 0.0, 1e9)]])
def test_any_counts_can_be_drawn_with_their_names(counts: list[tuple[str, float, float]]) -> None:
    svg = charts.pairs(counts)

    widths = [float(bar["width"]) for bar in drawn(svg, "rect")[1:]]
    assert len(widths) == 2 * len(counts)
    assert [name[:20] for name, *_ in counts] == [text[:20] for text in texts(svg) if re.match(r"a|x", text)]
