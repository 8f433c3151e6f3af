"""Turns: in each round everybody has one, so that a noisy minute hits all alike. Only ratios within a round are compared.

The order is turned round from round to round: whoever comes first finds other caches than whoever comes second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import TypeVar

T = TypeVar("T")


def in_turns(
    sides: Mapping[str, Callable[[], T]], rounds: int, advance: Callable[[], None] = lambda: None
) -> list[dict[str, T]]:
    """What each gave in each round. `advance` is called after each turn."""
    taken: list[dict[str, T]] = []
    for number in range(rounds):
        order = [*sides] if number % 2 == 0 else [*sides][::-1]
        given: dict[str, T] = {}
        for name in order:
            given[name] = sides[name]()
            advance()
        taken.append({name: given[name] for name in sides})
    return taken


def median_figure(rounds: Iterable[Mapping[str, float]], name: str) -> float:
    """The median over the rounds."""
    return median(figures[name] for figures in rounds)


def median_ratio(rounds: Iterable[Mapping[str, float]], name: str, against: str) -> float:
    """The median of the ratios within each round."""
    return median(figures[name] / figures[against] for figures in rounds)
