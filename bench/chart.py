"""Curves as SVG, drawn by pygal with nothing loaded from elsewhere.

Its own logarithmic scale takes both axes: here what is logarithmic is converted beforehand, and the labels say what it was.
"""

from __future__ import annotations

from math import ceil, floor, log10
from typing import Any

import pygal
from pygal.style import Style

from holdall.bench.results import Points

NINES_LABELS = {0.0: "0 %", 50.0: "50 %", 90.0: "90 %", 99.0: "99 %", 99.9: "99.9 %", 99.99: "99.99 %", 99.999: "99.999 %"}
LABELS_MAX = 10
"""At the horizontal axis: more would stand on each other."""
WIDTH, HEIGHT = 1100, 460
_COLORS = (
    *("#0b62a4", "#c0392b", "#27813f", "#8e44ad", "#e08e0b", "#16a0a0", "#7f5a3c", "#d64f9b"),
    *("#5b6b7a", "#8aa317", "#3f51b5", "#e2704a", "#4a9fd8", "#9c6f19", "#111111", "#999999"),
)
_STYLE = Style(background="transparent", plot_background="transparent", colors=_COLORS, legend_font_size=13, title_font_size=14)

_Label = dict[str, Any]


def nines(percentile: float) -> float:
    """Where a percentile is on an axis on which each further nine takes the same room.

    >>> [round(nines(percentile), 6) for percentile in (0, 90, 99, 99.9)]
    [0.0, 1.0, 2.0, 3.0]
    """
    return log10(1 / (1 - percentile / 100))


def latency_curves(curves: dict[str, Points]) -> str:
    """Microseconds over percentiles."""
    points = [point for curve in curves.values() for point in curve]
    reached = max((percentile for percentile, _ in points), default=0.0)
    x_labels: list[_Label] = [{"value": nines(at), "label": label} for at, label in NINES_LABELS.items() if at <= reached]
    moved = {name: [(nines(percentile), log10(value)) for percentile, value in curve] for name, curve in curves.items()}
    heights = [height for curve in moved.values() for _, height in curve]
    return _drawn(moved, x_title="percentile", y_title="µs", x_labels=x_labels, y_labels=_decades(heights))


def lines(curves: dict[str, Points], x_title: str, y_title: str) -> str:
    """One quantity over another."""
    places = sorted({x for curve in curves.values() for x, _ in curve})
    labelled = places[:: len(places) // LABELS_MAX + 1]
    x_labels: list[_Label] = [{"value": x, "label": f"{x:,.0f}"} for x in labelled]
    return _drawn(curves, x_title=x_title, y_title=y_title, x_labels=x_labels, include_x_axis=True)


def _decades(heights: list[float]) -> list[_Label]:
    """The labels 1, 2, 5, 10 … of a logarithmic axis, around these heights."""
    decades = range(floor(min(heights, default=0.0)), ceil(max(heights, default=1.0)) + 1)
    values = [step * 10.0**decade for decade in decades[:-1] for step in (1, 2, 5)] + [10.0 ** decades[-1]]
    return [{"value": log10(value), "label": f"{value:,g}"} for value in values]


def _shown(value: Any) -> str:
    """What stands at the vertical axis. A point's own text, which only a script would show, is left out."""
    return f"{value:,.0f}" if isinstance(value, (int, float)) else ""


def _drawn(curves: dict[str, Points], **options: Any) -> str:
    if not curves:
        return ""
    chart = pygal.XY(
        js=[],
        width=WIDTH,
        height=HEIGHT,
        style=_STYLE,
        dots_size=3,
        truncate_legend=-1,
        disable_xml_declaration=True,
        value_formatter=_shown,
        **options,
    )
    for name, curve in curves.items():
        chart.add(name, curve)
    return chart.render(is_unicode=True)
