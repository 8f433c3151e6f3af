"""Which entries are read and written, drawn beforehand: while the clock runs, drawing is an index into a list."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import accumulate
from random import Random
from typing import Any

from holdall.bench.workload import Distribution, Workload

SAMPLE = 1 << 15
"""Draws of one client, after which it begins again."""
BATCHES = 16
"""Batches of one client, after which it begins again."""
ZIPF_EXPONENT = 0.99
"""As in YCSB: of 1,000 entries the hottest gets an eighth of all calls."""
FILL_BYTES = 4 * 1024 * 1024
FILL_ENTRIES_MAX = 1_000


def value_of(workload: Workload) -> Any:
    """The value of all entries: random bytes, which nothing can compress, or an array of them."""
    value = Random(0).randbytes(workload.value_bytes)
    return import_module("numpy").frombuffer(value, "u1") if workload.is_array else value


def numbers(distribution: Distribution, entries: int, count: int, seed: int) -> list[int]:
    """So many draws of numbers below `entries`; zipf: the lower the likelier, number k in proportion to 1 / (k + 1)^0.99."""
    if distribution == "uniform":
        return Random(seed).choices(range(entries), k=count)
    weights = [*accumulate((number + 1) ** -ZIPF_EXPONENT for number in range(entries))]
    return Random(seed).choices(range(entries), cum_weights=weights, k=count)


def single_calls(workload: Workload, seed: int) -> list[tuple[bool, str]]:
    """Of a mixed workload: whether each call reads, and its key."""
    random = Random(seed)
    keys = numbers(workload.distribution, workload.entries, SAMPLE, seed)
    return [(random.random() < workload.read_share, workload.key(number)) for number in keys]


def batches(workload: Workload, seed: int) -> list[list[str]]:
    """Of a workload of batches, or of gets awaited together: the keys of each call, all different."""
    random = Random(seed)
    size = workload.operations_per_call
    return [[workload.key(number) for number in random.sample(range(workload.entries), size)] for _ in range(BATCHES)]


def fills(workload: Workload) -> Iterator[dict[str, Any]]:
    """All entries, in batches that every peer takes."""
    value = value_of(workload)
    size = max(1, min(FILL_ENTRIES_MAX, FILL_BYTES // workload.value_bytes))
    for first in range(0, workload.entries, size):
        yield {workload.key(number): value for number in range(first, min(first + size, workload.entries))}
