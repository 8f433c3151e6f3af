"""Curves as SVG that stands in the page itself: two axes, their labels, lines with dots, and whose they are.

pygal was tried: it mixes up a logarithmic scale of two axes, and each import after its own warns of its import hook.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from math import ceil, floor, log10

from holdall.bench.results import Points

NINES_LABELS = {0.0: "0 %", 50.0: "50 %", 90.0: "90 %", 99.0: "99 %", 99.9: "99.9 %", 99.99: "99.99 %", 99.999: "99.999 %"}
LABELS_MAX = 10
"""At the horizontal axis: more would stand on each other."""
WIDTH, HEIGHT = 1100, 460
LEFT, RIGHT, TOP, BOTTOM = 80, 220, 35, 60
"""What is kept free around the curves, for labels and the legend."""
COLORS = (
    *("#0b62a4", "#c0392b", "#27813f", "#8e44ad", "#e08e0b", "#16a0a0", "#7f5a3c", "#d64f9b"),
    *("#5b6b7a", "#8aa317", "#3f51b5", "#e2704a", "#4a9fd8", "#9c6f19", "#111111", "#999999"),
)

Labels = list[tuple[float, str]]
"""Where on an axis something stands, and what."""


def nines(percentile: float) -> float:
    """Where a percentile is on an axis on which each further nine takes the same room.

    >>> [round(nines(percentile), 6) for percentile in (0, 90, 99, 99.9)]
    [0.0, 1.0, 2.0, 3.0]
    """
    return log10(1 / (1 - percentile / 100))


def latency_curves(curves: dict[str, Points]) -> str:
    """Microseconds over percentiles, both logarithmic."""
    reached = max((percentile for curve in curves.values() for percentile, _ in curve), default=0.0)
    moved = {name: [(nines(percentile), log10(value)) for percentile, value in curve] for name, curve in curves.items()}
    x_labels = [(nines(at), label) for at, label in NINES_LABELS.items() if at <= reached]
    return _drawn(moved, "percentile", "µs", x_labels, _decades([height for curve in moved.values() for _, height in curve]))


def lines(curves: dict[str, Points], x_title: str, y_title: str) -> str:
    """One quantity over another; the vertical axis begins with zero."""
    points = [point for curve in curves.values() for point in curve]
    places = sorted({x for x, _ in points})
    x_labels = [(x, f"{x:,.0f}") for x in places[:: len(places) // LABELS_MAX + 1]]
    return _drawn(curves, x_title, y_title, x_labels, _steps(max((y for _, y in points), default=1.0)))


def _decades(heights: list[float]) -> Labels:
    """1, 2, 5, 10 …, around these logarithms."""
    first, last = floor(min(heights, default=0.0)), ceil(max(heights, default=1.0))
    values = [step * 10.0**decade for decade in range(first, last) for step in (1, 2, 5)]
    return [(log10(value), f"{value:,g}") for value in [*values, 10.0**last]]


def _steps(highest: float) -> Labels:
    """From zero to at least `highest` in some four to ten round steps."""
    decade = 10.0 ** floor(log10(highest or 1.0))
    step = next(decade * part for part in (0.2, 0.5, 1.0) if highest <= decade * part * LABELS_MAX)
    return [(number * step, f"{number * step:,g}") for number in range(ceil(highest / step) + 1)]


def _drawn(curves: dict[str, Points], x_title: str, y_title: str, x_labels: Labels, y_labels: Labels) -> str:
    places = [x for curve in curves.values() for x, _ in curve]
    if not places:
        return ""
    x_at = _scale(min(places), max(places), LEFT, WIDTH - RIGHT)
    y_at = _scale(y_labels[0][0], y_labels[-1][0], HEIGHT - BOTTOM, TOP)
    parts = [
        *(_grid_line(y_at(y), label) for y, label in y_labels),
        *(_text(x_at(x), HEIGHT - BOTTOM + 18, label, "middle") for x, label in x_labels),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title, "middle"),
        _text(4, TOP - 18, y_title, "start"),
    ]
    for index, (name, curve) in enumerate(curves.items()):
        color = COLORS[index % len(COLORS)]
        parts.append(_curve([(x_at(x), y_at(y)) for x, y in curve], color))
        parts.append(f'<rect x="{WIDTH - RIGHT + 20}" y="{TOP + index * 22}" width="12" height="12" fill="{color}"/>')
        parts.append(_text(WIDTH - RIGHT + 40, TOP + index * 22 + 11, name, "start"))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">{"".join(parts)}</svg>'


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From a value to where it is drawn."""
    return lambda value: start + (end - start) * ((value - low) / (high - low) if high > low else 0.5)


def _grid_line(y: float, label: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
    return line + _text(LEFT - 8, y + 4, label, "end")


def _curve(points: Points, color: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>{dots}'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
