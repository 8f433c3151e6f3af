"""One attack: a service, witnesses who use it, and a flood of hostile messages and strangers to one of its sockets."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from holdall.process.child import READY, command, environment
from holdall.process.config import ServiceSettings
from holdall.settings import service_url, socket_url
from tests.fuzz.memory import Growth, Memory
from tests.fuzz.messages import Messages
from tests.fuzz.strangers import Strangers
from tests.fuzz.streams import StreamDealer
from tests.fuzz.witness import Testimony, testify
from tests.processes import free_port, keyed, new_key, process_ids

SOCKETS = ("broker", "workers", "worker")
"""The broker's for clients, the broker's for workers, both of ZeroMQ, and a worker's own for lanes."""
POOL_MESSAGES = 10_000
POOL_ROUNDS = 10
"""To make a message costs more than to send it: each is sent so many times, to all of which an answer must be found."""
DEALERS = 4
"""One of them never takes an answer."""
DRAIN_MESSAGES = 50
STRANGERS_PER_ROUND = 20
STALL_SECONDS = 60.0
"""A service that takes no message for so long has stopped."""
LOG_BYTES_MAX = 1_000_000
TESTIMONY_SECONDS = 120.0


_KEYS: dict[str, Path] = {}
"""Connection files, by the URLs where a key is asked for: who floods has one."""


class Report(NamedTuple):
    """How an attack went; `faults` is empty if it was withstood."""

    at: str
    messages: int
    frames: int
    strangers: int
    seconds: float
    growths: list[Growth]
    testimonies: list[Testimony]
    log_bytes: int
    faults: list[str]


def attack(at: str, messages: int, seed: int, progress: Callable[[int], None] = lambda sent: None) -> Report:
    """Send so many messages to this socket of a service of its own."""
    with tempfile.TemporaryDirectory(prefix="holdall-fuzz-") as folder, _service(Path(folder)) as urls:
        data, log = Path(folder) / "data", Path(folder) / "log"
        before = process_ids(data)
        memory = Memory(before)

        def seen(sent: int) -> None:
            memory.sample(sent / messages)
            progress(sent)

        with _witnesses(service_url(data)) as testimonies:
            flood = _Flood(at, urls[at], seed)
            started = time.monotonic()
            flood.run(messages, seen)
            seconds = time.monotonic() - started
        faults = [fault for each in testimonies for fault in each.faults]
        faults += [f"a witness could make no call at all: {each}" for each in testimonies if not each.calls]
        if process_ids(data) != before:
            faults.append(f"processes died:\n{log.read_text()[-2000:]}")
            return Report(at, messages, flood.frames, flood.strangers, seconds, [], testimonies, 0, faults)
        growths = memory.growths()
        faults += [each.fault for each in growths if each.fault]
        if log.stat().st_size > LOG_BYTES_MAX:
            faults.append(f"the service wrote {log.stat().st_size:,} bytes of log")
        return Report(at, messages, flood.frames, flood.strangers, seconds, growths, testimonies, log.stat().st_size, faults)


class _Flood:
    """The sender."""

    def __init__(self, at: str, urls: list[str], seed: int) -> None:
        self.frames = 0
        self._at = at
        self._urls = urls
        self._seed = seed
        self._strangers = Strangers([url for url in urls if url not in _KEYS], seed, answers=at != "worker")

    @property
    def strangers(self) -> int:
        return self._strangers.count

    def run(self, messages: int, progress: Callable[[int], object]) -> None:
        """Send; `progress` is told how many."""
        sent = pool = 0
        while sent < messages:
            source = Messages(self._seed, pool)
            make = source.to_the_workers_socket if self._at == "workers" else source.to_a_client_socket
            made = [make() for _ in range(min(POOL_MESSAGES, messages - sent))]
            pool += 1
            with zmq.Context() as context:  # other dealers for each pool: those that came must not cost anything when they go
                dealers = [self._dealer(context, number) for number in range(DEALERS)]
                for _ in range(min(POOL_ROUNDS, (messages - sent) // len(made))):
                    for _ in range(STRANGERS_PER_ROUND):
                        self._strangers.come()
                    self._send(dealers, made, lambda: progress(sent))  # noqa: B023 - it is called at once
                    sent += len(made)
                    self.frames += sum(map(len, made))
                    progress(sent)
                for dealer in dealers:
                    dealer.close(0)
        self._strangers.leave()

    def _dealer(self, context: Any, number: int) -> Any:
        url = self._urls[number % len(self._urls)]
        if self._at == "worker":
            return StreamDealer(url)
        dealer = context.socket(zmq.DEALER)
        if url in _KEYS:
            keyed(dealer, _KEYS[url])
        if number == 1:  # an id of its own choice; one that is taken would not be read at all
            dealer.routing_id = b"\xff" + os.urandom(20)
        dealer.connect(url)
        return dealer

    def _send(self, dealers: list[Any], made: list[list[bytes]], waiting: Callable[[], object]) -> None:
        for start in range(0, len(made), DRAIN_MESSAGES):
            dealer = dealers[start // DRAIN_MESSAGES % DEALERS]
            for message in made[start : start + DRAIN_MESSAGES]:
                until = time.monotonic() + STALL_SECONDS
                while not _sent(dealer, message):
                    waiting()
                    assert time.monotonic() < until, f"the service took no message for {STALL_SECONDS:g} s"
                    dealer.poll(10, zmq.POLLOUT)
            if dealer is not dealers[-1]:
                _take_answers(dealer)


def _sent(dealer: Any, message: list[bytes]) -> bool:
    if isinstance(dealer, StreamDealer):
        return dealer.sent(message)
    try:
        if len(message) == 1:
            dealer.send(message[0], zmq.DONTWAIT)
        else:
            dealer.send_multipart(message, zmq.DONTWAIT)
    except zmq.Again:
        return False
    return True


def _take_answers(dealer: Any) -> None:
    if isinstance(dealer, StreamDealer):
        dealer.drain()
        return
    try:
        while True:
            dealer.recv(zmq.DONTWAIT)
    except zmq.Again:
        return


@contextmanager
def _service(folder: Path) -> Iterator[dict[str, list[str]]]:
    """A service in this folder; the URLs of each of its sockets."""
    tcp = f"tcp://127.0.0.1:{free_port()}"
    data = folder / "data"
    argv = command("holdall.service", ServiceSettings(str(data), listen=[tcp], workers=2, sync="off"))
    pipe = subprocess.PIPE
    with (
        open(folder / "log", "w") as log,
        subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=log, env=environment()) as running,
    ):
        assert running.stdin is not None
        assert running.stdout is not None
        line = running.stdout.readline().decode().strip()
        assert line == READY, line
        _KEYS[tcp] = new_key(data)
        yield {
            "broker": [service_url(data), tcp],
            "workers": [socket_url(data, "workers")],
            "worker": [socket_url(data, "worker-0")],
        }
        running.stdin.close()
        running.wait(TESTIMONY_SECONDS)


@contextmanager
def _witnesses(url: str) -> Iterator[list[Testimony]]:
    """Witnesses who begin before the block and end after it; their testimonies are there then."""
    spawn = multiprocessing.get_context("spawn")
    begun, stop, told = spawn.Event(), spawn.Event(), spawn.Queue()
    process = spawn.Process(target=testify, args=(url, begun, stop, told))
    testimonies: list[Testimony] = []
    process.start()
    try:
        assert begun.wait(TESTIMONY_SECONDS)
        yield testimonies
    finally:
        stop.set()
        testimonies += [told.get(timeout=TESTIMONY_SECONDS) for _ in range(2)]
        process.join()
        told.close()
        told.join_thread()
