"""Where the microseconds of a get and a put go, hop by hop: one client, one worker, both noting the time at each step.

All processes of a machine read one monotonic clock, so the notes of client and worker can be laid side by side. Each step is
the median over the calls, so the steps need not add up to the median of the whole. To note the time takes 0.1 µs each time.
"""

from __future__ import annotations

import os
import subprocess
from array import array
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import holdall
from holdall.bench.peers.server import folder
from holdall.client.connection.lane import BlockingLane
from holdall.process.child import READY, command, environment
from holdall.process.config import BrokerSettings, Sync, WorkerSettings
from holdall.process.listen import make_private
from holdall.settings import runtime_directory, service_url, socket_url
from holdall.worker.directory.opening import DataDirectory

STEPS = (
    ("client", "encode the key, number the request, pack it"),
    ("client", "the system call that sends it, and wakes the worker"),
    ("system", "until the worker runs, beyond that call"),
    ("worker", "receive and split"),
    ("worker", "decide; for a put, write the batch"),
    ("worker", "the system call that sends the answer, and wakes the client"),
    ("system", "until the client runs, beyond that call"),
    ("client", "match the answer, read the value"),
    ("", "all"),
)
WARM_UP_CALLS = 500
KEYS = 1_000


class Trace:
    """When the client was where, for each call: begun, to be sent, sent, received, ended."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int, int, int]] = []
        self.sending = self.sent = self.received = 0

    def send(self, lane: BlockingLane, message: Any) -> bool:
        """In place of a lane's own."""
        self.sending = perf_counter_ns()
        done = _send(lane, message)
        self.sent = perf_counter_ns()
        return done

    def receive(self, lane: BlockingLane, *, wait: bool) -> Any:
        """In place of a lane's own."""
        heard = _receive(lane, wait=wait)
        self.received = perf_counter_ns()
        return heard


_send, _receive = BlockingLane.send, BlockingLane.receive


def steps(operation: str, calls: int, value_bytes: int, sync: Sync) -> list[float]:
    """The median of each step, in microseconds, of this many gets or puts."""
    with folder() as place:
        trace = Trace()
        turns = place / "turns"
        with _service(place, turns, sync) as url, holdall.Client(url) as client, _traced(trace):
            d: holdall.Dict[str, bytes] = holdall.Dict.from_name("profile", create_if_missing=True, client=client)
            value = os.urandom(value_bytes)
            for number in range(KEYS):
                d[f"key-{number}"] = value
            for number in range(WARM_UP_CALLS + calls):
                key = f"key-{number % KEYS}"
                begun = perf_counter_ns()
                _ = d.get(key) if operation == "get" else d.put(key, value)
                trace.calls.append((begun, trace.sending, trace.sent, trace.received, perf_counter_ns()))
        return _medians(trace.calls[WARM_UP_CALLS:], _turns(turns))


def _turns(file: Path) -> list[tuple[int, ...]]:
    times = array("q")
    times.frombytes(file.read_bytes())
    return [tuple(times[at : at + 4]) for at in range(0, len(times) - len(times) % 4, 4)]


def _medians(calls: list[tuple[int, int, int, int, int]], turns: list[tuple[int, ...]]) -> list[float]:
    """Each call was answered in the turn that began after it was to be sent, and ended around when its answer came."""
    taken: list[list[int]] = []
    at = 0
    for begun, sending, sent, received, ended in calls:
        while at < len(turns) and turns[at][0] < sending:
            at += 1
        if at == len(turns) or turns[at][0] > received:
            continue
        woken, split, decided, answered = turns[at]
        there, back = max(0, woken - sent), max(0, received - answered)
        ways = (sending - begun, min(sent, woken) - sending, there, split - woken, decided - split)
        taken.append([*ways, min(answered, received) - decided, back, ended - received, ended - begun])
    return [median(step) / 1000 for step in zip(*taken, strict=True)]


@contextmanager
def _traced(trace: Trace) -> Generator[None, None, None]:
    lane: Any = BlockingLane

    def send(self: Any, message: Any) -> bool:
        return trace.send(self, message)

    def receive(self: Any, *, wait: bool) -> Any:
        return trace.receive(self, wait=wait)

    lane.send, lane.receive = send, receive
    try:
        yield
    finally:
        lane.send, lane.receive = _send, _receive


@contextmanager
def _service(place: Path, turns: Path, sync: Sync) -> Generator[str, None, None]:
    data = DataDirectory(place / "data")
    lock = data.lock()
    data.prepare(1)
    make_private(runtime_directory(data.path))
    url, backend = service_url(data.path), socket_url(data.path, "workers")
    broker = BrokerSettings([url], backend)
    worker = WorkerSettings(str(data.path), 0, backend, socket_url(data.path, "worker-0"), sync)
    with ExitStack() as stack:
        for argv in (command("holdall.broker", broker), command("holdall.bench.traced_worker", worker)):
            stack.enter_context(_child(argv, {**environment(), "HOLDALL_TRACE": str(turns)}))
        yield url
    lock.release()


@contextmanager
def _child(argv: list[str], variables: dict[str, str]) -> Generator[None, None, None]:
    """A process that ends when its standard input does."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables, text=True) as child:
        assert child.stdout is not None
        line = child.stdout.readline().strip()
        if line != READY:
            raise holdall.StorageError(f"a process to be profiled does not start: {line}")
        yield
        child.communicate()
