"""Many small entries on disk: how long loading takes, how large they are there, and what a get takes, cold and warm."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import holdall
from holdall.bench import latencies, sampling
from holdall.bench.fleet import fleet
from holdall.bench.peers import server
from holdall.bench.peers.ours import DictConnector, service_pid
from holdall.bench.peers.peer import Instance
from holdall.bench.report import number
from holdall.bench.results import ComparedPeer, Comparison, Points, Scaling
from holdall.bench.turn import Length, Turn
from holdall.bench.workload import NAMED

ENTRIES = 10_000_000
BATCH = 10_000
POINTS = 20
"""Of the curve of the load."""
MIB = 1024 * 1024


class Loaded(NamedTuple):
    """How the load went: at so many entries, so many a second since the point before."""

    seconds: float
    rates: Points


def many_entries(count: int, seconds: float, advance: Callable[[int], None]) -> tuple[Scaling, Comparison]:
    """Load so many, stop the service, and read with and without what the kernel has cached. `advance` is told of entries."""
    workload = replace(NAMED["get"], entries=count, warm_up_calls=0)
    with server.folder() as data:
        service = holdall.LocalService(data, sync="interval")
        service.start()
        try:
            loaded = _load(DictConnector(service.url), count, advance)
        finally:
            service.stop()
        disk_bytes = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
        _forget(data)
        started = perf_counter()
        service.start()
        start_seconds = perf_counter() - started
        try:
            with fleet(Instance(DictConnector(service.url), (service_pid(data),)), workload, fill=False) as clients:
                turns = {name: clients.turn(Length(seconds)) for name in ("cold", "warm")}
        finally:
            service.stop()
    return _scaling(count, loaded, disk_bytes, start_seconds), _comparison(count, turns)


def _load(connector: DictConnector, count: int, advance: Callable[[int], None]) -> Loaded:
    workload = replace(NAMED["get"], entries=count)
    value = sampling.value_of(workload)
    step = max(BATCH, count // POINTS)
    rates: Points = []
    with connector.client() as client:
        assert client.put_many is not None
        begun = since = perf_counter()
        for first in range(0, count, BATCH):
            after = min(first + BATCH, count)
            client.put_many({workload.key(number): value for number in range(first, after)})
            advance(after - first)
            if after % step < BATCH or after == count:
                now = perf_counter()
                entries = after - (int(rates[-1][0]) if rates else 0)
                rates.append((after, entries / (now - since)))
                since = now
        return Loaded(perf_counter() - begun, rates)


def _forget(data: Path) -> None:
    """Ask the kernel to drop what it has cached of these files."""
    if not hasattr(os, "posix_fadvise"):
        return  # macOS has no such call: "cold" is then what the service finds after a start
    for path in data.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def _scaling(count: int, loaded: Loaded, disk_bytes: int, start_seconds: float) -> Scaling:
    row = [f"{count:,}", number(loaded.seconds), number(count / loaded.seconds), number(disk_bytes / MIB)]
    columns = ["entries", "load s", "entries/s", "MiB on disk", "bytes an entry", "start s"]
    rows = [[*row, number(disk_bytes / count), number(start_seconds)]]
    lines = {"put_many of 10,000": loaded.rates}
    return Scaling(f"{count:,} entries of 100 bytes", "entries there", "entries/s", lines, columns, rows)


def _comparison(count: int, turns: dict[str, Turn]) -> Comparison:
    peers = [
        ComparedPeer(f"holdall interval, {name}", turn.figures(), None, None, latencies.curve(turn.histogram))
        for name, turn in turns.items()
    ]
    description = "One client gets 100-byte values after a start, without what the kernel had cached, and again."
    return Comparison(f"{count:,} entries", description, 1, None, peers, {})
