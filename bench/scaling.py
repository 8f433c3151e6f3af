"""Throughput against the number of clients, and against the number of workers: nine gets to a put."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from holdall.bench.compare import AGAINST
from holdall.bench.fleet import Fleet, fleet
from holdall.bench.peers.ours import holdall_dict
from holdall.bench.peers.peer import Instance, Missing, Peer
from holdall.bench.report import number
from holdall.bench.results import Points, Scaling
from holdall.bench.rounds import in_turns, median_figure, median_ratio
from holdall.bench.turn import Length
from holdall.bench.workload import NAMED, Workload
from holdall.process.config import Sync

CLIENTS = (1, 2, 4, 8, 16)
WORKERS = (1, 2, 4)
MIXED = NAMED["mixed"]
SYNC_MODES: tuple[Sync, ...] = ("interval", "always")

Rates = list[dict[str, float]]
"""Of each round, by peer: operations a second."""


def against_clients(
    peers: list[Peer], counts: Sequence[int], rounds: int, seconds: float, advance: Callable[[], None]
) -> Scaling:
    """Each peer that is installed serves so many processes, which call without pause."""
    taken: dict[int, Rates] = {}
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        instances = started(peers, stack, left_out)
        for count in counts:
            taken[count] = _rates(instances, replace(MIXED, processes=count), rounds, seconds, advance)
    compared = [name for name in instances if AGAINST in instances and name != AGAINST]
    lines: dict[str, Points] = {
        name: [(count, median_figure(rates, name)) for count, rates in taken.items()] for name in instances
    }
    rows = [
        [
            str(count),
            *(number(median_figure(rates, name)) for name in instances),
            *(number(median_ratio(rates, name, AGAINST)) for name in compared),
        ]
        for count, rates in taken.items()
    ]
    columns = ["client processes", *(f"{name}, ops/s" for name in instances), *(f"{name} : {AGAINST}" for name in compared)]
    return Scaling("Throughput against clients, 90 % gets", "client processes", "ops/s", lines, columns, rows, left_out)


def against_workers(counts: Sequence[int], rounds: int, seconds: float, advance: Callable[[], None]) -> Scaling:
    """Services that differ in nothing but their workers, and four client processes."""
    taken: dict[Sync, Rates] = {}
    for sync in SYNC_MODES:
        with ExitStack() as stack:
            instances = started([holdall_dict(sync, workers=count) for count in counts], stack, {})
            taken[sync] = _rates(instances, MIXED, rounds, seconds, advance)
    names = {sync: {count: holdall_dict(sync, workers=count).name for count in counts} for sync in SYNC_MODES}
    lines: dict[str, Points] = {
        sync: [(count, median_figure(rates, names[sync][count])) for count in counts] for sync, rates in taken.items()
    }
    rows = [
        [
            str(count),
            *(number(median_figure(taken[sync], names[sync][count])) for sync in SYNC_MODES),
            *(number(median_ratio(taken[sync], names[sync][count], names[sync][counts[0]])) for sync in SYNC_MODES),
        ]
        for count in counts
    ]
    rate_columns = [f"{sync}, ops/s" for sync in SYNC_MODES]
    columns = ["workers", *rate_columns, *(f"{sync} : {counts[0]} worker" for sync in SYNC_MODES)]
    return Scaling("Throughput against workers, 4 clients, 90 % gets", "workers", "ops/s", lines, columns, rows)


def started(peers: list[Peer], stack: ExitStack, left_out: dict[str, str]) -> dict[str, Instance]:
    """Those that are installed; `left_out` is told of the others."""
    instances: dict[str, Instance] = {}
    for peer in peers:
        try:
            instances[peer.name] = stack.enter_context(peer.start())
        except Missing as missing:
            left_out[peer.name] = str(missing)
    return instances


def _rates(
    instances: dict[str, Instance], workload: Workload, rounds: int, seconds: float, advance: Callable[[], None]
) -> Rates:
    with ExitStack() as stack:
        fleets = {name: stack.enter_context(fleet(instance, workload)) for name, instance in instances.items()}
        turns = {name: _turn(clients, seconds) for name, clients in fleets.items()}
        return in_turns(turns, rounds, advance)


def _turn(clients: Fleet, seconds: float) -> Callable[[], float]:
    return lambda: clients.turn(Length(seconds)).rate
