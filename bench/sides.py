"""The sides of a goal: a peer that does something, and one figure of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from statistics import median
from time import monotonic, sleep

from holdall.bench import latencies
from holdall.bench.client_process import Failed
from holdall.bench.encodings import microseconds
from holdall.bench.fleet import fleet
from holdall.bench.peers.peer import Peer
from holdall.bench.resources import busy_seconds, family
from holdall.bench.startup import client_install, import_milliseconds, start_milliseconds
from holdall.bench.turn import Length, Turn
from holdall.bench.workload import NAMED, Workload

REST_SECONDS = 3.0
"""After so long a service that was used is idle: its entries are swept, its files flushed."""
WRITER_SECONDS_MORE = 1.0
"""The writer goes on for so long after the reader should have stopped: the reader's warm-up is within its time too."""


@dataclass(frozen=True)
class Side:
    """Who is measured. `measured(seconds)` is for the time in which turns are taken; each is so long."""

    label: str
    unit: str
    measured: Callable[[float], AbstractContextManager[Callable[[], float]]]


def _p50(turn: Turn) -> float:
    return latencies.microseconds(turn.histogram, 50)


def _tail(percentile: float) -> Callable[[Turn], float]:
    return lambda turn: latencies.microseconds(turn.histogram, percentile)


def _rate(turn: Turn) -> float:
    return turn.rate


def latency(peer: Peer, workload: Workload) -> Side:
    """The p50 of its calls, in microseconds."""
    return _side(peer, workload, "µs", _p50)


def tail(peer: Peer, workload: Workload, percentile: float) -> Side:
    """This percentile of its calls, in microseconds."""
    return _side(peer, workload, "µs", _tail(percentile))


def throughput(peer: Peer, workload: Workload) -> Side:
    """Entries read or written in a second."""
    return _side(peer, workload, "ops/s", _rate)


def importing(statement: str) -> Side:
    """How long a new interpreter takes for this statement, in a client's own install."""

    @contextmanager
    def measured(seconds: float) -> Generator[Callable[[], float], None, None]:
        with client_install() as folder:
            yield _repeated(lambda: import_milliseconds(statement, folder), seconds)

    return Side(statement, "ms", measured)


def starting() -> Side:
    """How long a private service takes from nothing to its first answer."""

    @contextmanager
    def measured(seconds: float) -> Generator[Callable[[], float], None, None]:
        yield _repeated(start_milliseconds, seconds)

    return Side("LocalService", "ms", measured)


def converting(convert: Callable[[object], object], value: object) -> Side:
    """How long a value takes to bytes and back, within a process."""

    @contextmanager
    def measured(seconds: float) -> Generator[Callable[[], float], None, None]:
        yield _repeated(lambda: microseconds(convert, value), seconds)

    return Side(convert.__name__, "µs", measured)


def _repeated(once: Callable[[], float], seconds: float) -> Callable[[], float]:
    """What happens once in a process: the median of as many as a turn has time for."""

    def turn() -> float:
        ends = monotonic() + seconds
        taken = [once()]
        while monotonic() < ends:
            taken.append(once())
        return median(taken)

    return turn


def _side(peer: Peer, workload: Workload, unit: str, figure: Callable[[Turn], float]) -> Side:
    @contextmanager
    def measured(seconds: float) -> Generator[Callable[[], float], None, None]:
        with peer.start() as instance, fleet(instance, workload) as clients:
            yield lambda: figure(clients.turn(Length(seconds)))

    return Side(peer.name, unit, measured)


def idling(peer: Peer) -> Side:
    """How much of a processor the peer and a connected client take while nothing is asked."""

    @contextmanager
    def measured(seconds: float) -> Generator[Callable[[], float], None, None]:
        with peer.start() as instance, fleet(instance, NAMED["get"]) as clients:
            clients.turn(Length(seconds))
            sleep(REST_SECONDS)
            pids = family((*instance.pids, *clients.pids))

            def turn() -> float:
                before, began = busy_seconds(pids), monotonic()
                sleep(seconds)
                return 100 * (busy_seconds(pids) - before) / (monotonic() - began)

            yield turn

    return Side(f"{peer.name}, idle", "%", measured)


def gets_beside_a_writer(peer: Peer, workload: Workload, percentile: float) -> Side:
    """This percentile of small gets while another process puts what `workload` says without pause, in microseconds."""
    writes = replace(workload, key_prefix="large-", warm_up_calls=1)

    @contextmanager
    def measured(seconds: float) -> Generator[Callable[[], float], None, None]:
        with peer.start() as instance, fleet(instance, NAMED["get"]) as reader, fleet(instance, writes) as writer:

            def turn() -> float:
                writer.begin(Length(seconds + WRITER_SECONDS_MORE))
                read = reader.turn(Length(seconds))
                written = writer.end()
                if written.ended < read.ended:
                    raise Failed("the writer stopped before the reader did: the reader took too long to warm up")
                return _tail(percentile)(read)

            yield turn

    return Side(f"{peer.name}, beside a writer", "µs", measured)
