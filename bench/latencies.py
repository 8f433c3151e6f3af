"""Latencies as an HdrHistogram: nanoseconds, from 1 ns to 60 s, three digits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

HIGHEST_NANOSECONDS = 60 * 10**9
DIGITS = 3
NINES = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.995, 99.999)
"""The percentiles of a curve."""


def histogram(nanoseconds: Iterable[int] = ()) -> HdrHistogram:
    """A histogram of these; equal ones are recorded at once, for recording is Python."""
    made = HdrHistogram(1, HIGHEST_NANOSECONDS, DIGITS)
    for value, count in Counter(nanoseconds).items():
        made.record_value(min(value, HIGHEST_NANOSECONDS), count)
    return made


def microseconds(recorded: HdrHistogram, percentile: float) -> float:
    """The latency that so many percent of the calls did not exceed."""
    return recorded.get_value_at_percentile(percentile) / 1_000


def curve(recorded: HdrHistogram) -> list[tuple[float, float]]:
    """Percentile and microseconds, as far as there are enough calls to tell: at least one beyond the percentile."""
    count = recorded.get_total_count()
    told = [nines for nines in NINES if (100 - nines) / 100 * count >= 1]
    return [(percentile, microseconds(recorded, percentile)) for percentile in told]
