"""A storm: a thousand clients that connect at once, each to make one get. All stay connected until the last has its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter_ns
from typing import Any, NamedTuple

from holdall.bench import latencies
from holdall.bench.fleet import fleet
from holdall.bench.peers.peer import Connector, Instance, Peer
from holdall.bench.report import number
from holdall.bench.results import Scaling
from holdall.bench.rounds import in_turns
from holdall.bench.scaling import started
from holdall.bench.workload import NAMED
from holdall.process.admission import raise_descriptor_limit

CLIENTS = 1_000
PROCESSES = 8
"""That the clients are threads of: a process of its own for each would measure how Python starts."""
STORM_SECONDS_MAX = 300.0
KEY = NAMED["get"].key(0)


class _Contact(NamedTuple):
    """One client's: when it began to connect, and when it had its answer, in nanoseconds; or why it got none."""

    started: int
    answered: int = 0
    error: str = ""


class Gale(NamedTuple):
    """One storm: what each client that got an answer waited for it, how long all together took, in milliseconds; and why
    others got none.
    """

    waited: list[float]
    milliseconds: float
    errors: list[str]


def storm(peers: list[Peer], clients: int, rounds: int, advance: Callable[[], None]) -> Scaling:
    """Let a storm come upon each peer in turns."""
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        instances = started(peers, stack, left_out)
        for instance in instances.values():
            with fleet(instance, replace(NAMED["get"], entries=1)):
                pass  # the entry is there now
        gales = in_turns({name: _gale(instance, clients) for name, instance in instances.items()}, rounds, advance)
    lines = {name: _curve(gales[-1][name].waited) for name in instances}
    rows = [[name, *_cells([gale[name] for gale in gales], clients)] for name in instances]
    columns = ["peer", "clients", "answered", "all answered, ms", "p50 ms", "p99 ms", "slowest ms", "first error"]
    title = f"A storm of {clients:,} clients, each connects and makes one get"
    return Scaling(title, "clients answered", "ms", lines, columns, rows, left_out)


def _cells(gales: list[Gale], clients: int) -> list[str]:
    histograms = [latencies.histogram(int(each * 1e6) for each in gale.waited) for gale in gales]

    def at(percentile: float) -> str:
        return number(median(latencies.microseconds(each, percentile) / 1_000 for each in histograms))

    fewest = min(len(gale.waited) for gale in gales)
    errors = [error for gale in gales for error in gale.errors]
    figures = [number(median(gale.milliseconds for gale in gales)), at(50), at(99), at(100)]
    return [f"{clients:,}", f"{fewest:,}", *figures, errors[0] if errors else "–"]


def _curve(waited: list[float]) -> list[tuple[float, float]]:
    """How many had their answer after how long: a tenth of the clients from point to point."""
    ordered = sorted(waited)
    tenths = [len(ordered) * tenth // 10 for tenth in range(1, 11)]
    return [(count, ordered[count - 1]) for count in tenths if count]


def _gale(instance: Instance, clients: int) -> Callable[[], Gale]:
    def turn() -> Gale:
        contacts = _contacts(instance.connector, clients)
        answered = [contact for contact in contacts if not contact.error]
        waited = [(contact.answered - contact.started) / 1e6 for contact in answered]
        ended = max((contact.answered for contact in answered), default=0)
        milliseconds = (ended - min(contact.started for contact in contacts)) / 1e6
        return Gale(waited, milliseconds, [contact.error for contact in contacts if contact.error])

    return turn


def _contacts(connector: Connector, clients: int) -> list[_Contact]:
    context = get_context("spawn")
    processes = min(PROCESSES, clients)
    barrier = context.Barrier(processes)
    shares = [clients // processes + (index < clients % processes) for index in range(processes)]
    pipes: list[Connection[Any, Any]] = []
    running: list[Any] = []
    for share in shares:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_main, args=(connector, share, barrier, theirs), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        running.append(process)
    contacts = [contact for pipe in pipes for contact in pipe.recv()]
    for process in running:
        process.join()
    return contacts


def _main(connector: Connector, clients: int, barrier: threading.Barrier, pipe: Connection[Any, Any]) -> None:
    """One process of the storm."""
    raise_descriptor_limit()
    begun, over = threading.Event(), threading.Barrier(clients)
    contacts: list[_Contact] = []

    def contact() -> None:
        begun.wait()
        at = perf_counter_ns()
        try:
            with connector.client() as client:
                client.get(KEY)
                contacts.append(_Contact(at, perf_counter_ns()))
                over.wait(STORM_SECONDS_MAX)
        except threading.BrokenBarrierError:
            pass  # another one got no answer
        except Exception as error:  # whatever the peer's library raises when it is not let in
            contacts.append(_Contact(at, error=f"{type(error).__name__}: {error}"))
            over.abort()

    threads = [threading.Thread(target=contact) for _ in range(clients)]
    for thread in threads:
        thread.start()
    barrier.wait(STORM_SECONDS_MAX)
    begun.set()
    for thread in threads:
        thread.join()
    pipe.send(contacts)
