"""Curves as SVG, drawn by pygal with nothing loaded from elsewhere."""

from __future__ import annotations

from math import log10
from typing import Any

import pygal
from pygal.style import CleanStyle

from holdall.bench.results import Points

NINES_LABELS = {0.0: "0 %", 50.0: "50 %", 90.0: "90 %", 99.0: "99 %", 99.9: "99.9 %", 99.99: "99.99 %", 99.999: "99.999 %"}
WIDTH, HEIGHT = 960, 420


def nines(percentile: float) -> float:
    """Where a percentile is on an axis on which each further nine takes the same room.

    >>> [round(nines(percentile), 6) for percentile in (0, 90, 99, 99.9)]
    [0.0, 1.0, 2.0, 3.0]
    """
    return -log10(1 - percentile / 100)


def latency_curves(curves: dict[str, Points]) -> str:
    """Microseconds over percentiles."""
    reached = max((percentile for curve in curves.values() for percentile, _ in curve), default=0.0)
    labels = [{"value": nines(at), "label": label} for at, label in NINES_LABELS.items() if at <= reached]
    moved = {name: [(nines(percentile), value) for percentile, value in curve] for name, curve in curves.items()}
    return _drawn(moved, x_title="percentile", y_title="µs", logarithmic=True, x_labels=labels)


def lines(curves: dict[str, Points], x_title: str, y_title: str, *, logarithmic: bool = False) -> str:
    """One quantity over another."""
    places = sorted({x for curve in curves.values() for x, _ in curve})
    labels = [{"value": x, "label": f"{x:,.0f}"} for x in places]
    return _drawn(curves, x_title=x_title, y_title=y_title, logarithmic=logarithmic, x_labels=labels)


def _drawn(curves: dict[str, Points], **options: Any) -> str:
    chart = pygal.XY(
        js=[],
        width=WIDTH,
        height=HEIGHT,
        style=CleanStyle,
        dots_size=3,
        legend_at_bottom=True,
        legend_at_bottom_columns=3,
        truncate_legend=-1,
        disable_xml_declaration=True,
        show_minor_x_labels=False,
        **options,
    )
    for name, curve in curves.items():
        chart.add(name, curve)
    return chart.render(is_unicode=True)
