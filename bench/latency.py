"""The latency of single blocking calls: all peers in turns, round by round, so that a noisy minute hits them alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from statistics import median, quantiles
from time import perf_counter_ns
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track

from holdall.bench import peers
from holdall.bench.peers import Missing, Peer, Store

ENTRIES = 1_000
VALUE_BYTES = 100
WARM_UP_CALLS = 200

PEERS: dict[str, Peer] = {
    "holdall, always": peers.holdall_dict("always"),
    "holdall, interval": peers.holdall_dict("interval"),
    "Redis, always": peers.redis("always"),
    "Redis, everysec": peers.redis("everysec"),
    "Manager.dict": peers.manager_dict,
    "diskcache": peers.diskcache,
    "bare pyzmq echo": peers.bare_zmq,
}


class Row(NamedTuple):
    """One peer and operation: microseconds at each percentile, the median over the rounds."""

    peer: str
    operation: str
    p50: float
    p99: float


def measure(rounds: int, calls: int, console: Console) -> list[Row]:
    """Start every peer that is installed and take turns."""
    with ExitStack() as stack:
        stores: dict[str, Store] = {}
        for name, peer in PEERS.items():
            try:
                stores[name] = stack.enter_context(peer())
            except Missing as missing:
                console.print(f"{name} is left out: {missing}")
        for store in stores.values():
            for number in range(ENTRIES):
                store.put(f"key-{number}", bytes(VALUE_BYTES))
        samples: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in track(range(rounds), "rounds", console=console):
            for name, store in stores.items():
                for operation, call in _calls(store).items():
                    samples.setdefault((name, operation), []).append(_percentiles(call, calls))
    return [
        Row(name, operation, median(p50 for p50, _ in taken), median(p99 for _, p99 in taken))
        for (name, operation), taken in samples.items()
    ]


def _calls(store: Store) -> dict[str, Callable[[int], Any]]:
    value = bytes(VALUE_BYTES)
    return {
        "get": lambda number: store.get(f"key-{number % ENTRIES}"),
        "put": lambda number: store.put(f"key-{number % ENTRIES}", value),
    }


def _percentiles(call: Callable[[int], Any], calls: int) -> tuple[float, float]:
    for number in range(WARM_UP_CALLS):
        call(number)
    taken: list[float] = []
    for number in range(calls):
        started = perf_counter_ns()
        call(number)
        taken.append((perf_counter_ns() - started) / 1000)
    cuts = quantiles(taken, n=100)
    return cuts[49], cuts[98]
