"""One run: a service and its clients on a virtual network and a virtual clock, everything decided by one seed.

a storm     clients call while processes, links, disks and clocks fail
calm        nothing new goes wrong; clients make the calls they have left, and no call may fail any more
last look   a fresh client reads everything, and the history is judged
late look   if entries expire: nobody uses any for that long, and then none is left
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from random import Random
from types import SimpleNamespace
from typing import NoReturn
from unittest import mock

from holdall.broker.core import Broker
from holdall.client.connection.session import Session
from holdall.worker.core import Worker
from tests.simulation import scenario
from tests.simulation.broker_process import BrokerProcess
from tests.simulation.client_process import ClientProcess, Life, SimulatedClient
from tests.simulation.clock import Clock
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults
from tests.simulation.history import LAST_LOOK, LENGTH, History
from tests.simulation.judgement import judge, nothing_is_left
from tests.simulation.network import Network
from tests.simulation.scenario import ClientPlan
from tests.simulation.worker_process import Machine
from tests.simulation.workload import Wish, last_look

WORK_SECONDS_MAX = 3_600.0
"""Far more than all calls of a run take when each of them ends by its deadline."""

AFTER_TTL = "late look"
"""The client that reads everything again after nobody has done so for a `ttl`."""
EXPIRED_AFTER_TTLS = 1.03
"""An entry is gone after a hundredth more than its ttl, and swept in another fiftieth."""
SWEPT_SECONDS = 2.0
"""A worker that has nothing else to do looks twice a second for what it may sweep."""


class Violation(AssertionError):
    """A promise was broken. The text has the seed and the history."""


@dataclass(frozen=True)
class Cores:
    """What is simulated; a test may put something broken in its place."""

    broker: Callable[[bytes], Broker] = Broker
    worker: Callable[..., Worker] = Worker
    session: Callable[[bytes, Random], Session] = Session
    client: Callable[[Life], SimulatedClient] = SimulatedClient
    disk: Callable[[Random], Disk] = Disk


_REAL = Cores()


class Simulation:
    """The run of one seed. With `traced` its history has every message too."""

    def __init__(self, seed: int, cores: Cores = _REAL, *, traced: bool = False) -> None:
        self.seed = seed
        self.cores = cores
        self.random = Random(seed)
        self.scenario = scenario.draw(self.random)
        self.clock = Clock()
        self.history = History(self.clock)
        self.calm_at = inf
        """From when on no call may fail."""
        self.weather = self.scenario.weather(self.random)
        self.network = Network(self.clock, self.random, self.weather, self.history.message if traced else None)
        self.faults = Faults(self)
        self.broker = BrokerProcess(self)
        self.machines = [Machine(self, index) for index in range(self.scenario.workers)]
        self.clients: list[ClientProcess] = []

    def run(self) -> None:
        """Run to the end. Raises Violation, which names the seed and tells the history, if anything is not as promised."""
        try:
            with self._surroundings():
                self._run()
        except Violation:
            raise
        except Exception as error:
            raise Violation(self._told(f"{type(error).__name__}: {error}")) from error

    def require(self, holds: bool, text: str) -> None:
        """Fail unless it holds."""
        if not holds:
            self.fail(text)

    def fail(self, text: str) -> NoReturn:
        """Raise Violation with this text and the history."""
        raise Violation(self._told(text))

    def crc_of(self, name: str) -> int:
        """The CRC-32 of the id of this Dict, once the last look has begun."""
        return self._last.life.handles[name].crc

    def _run(self) -> None:
        self.broker.start()
        for machine in self.machines:
            machine.start()
        if self.scenario.set_up:
            self._make("set-up", [Wish(LENGTH, name, self.scenario.keys) for name in self.scenario.dicts])
            for machine in self.machines:
                machine.disk.settle_down()
        self.clients = [ClientProcess(self, f"client {number}", plan) for number, plan in enumerate(self.scenario.clients)]
        for client in self.clients:
            client.work()
        self.faults.begin()
        self._wait_for(self.clients)
        self.faults.end()
        self.clock.advance(self.calm_at)
        self._last = self._make(LAST_LOOK, last_look(self.scenario))
        judge(self)
        if self.scenario.ttl is not None:
            self.clock.advance(self.clock.now + self.scenario.ttl * EXPIRED_AFTER_TTLS + SWEPT_SECONDS)
            self._make(AFTER_TTL, last_look(self.scenario))
            nothing_is_left(self, AFTER_TTL)

    def _make(self, name: str, wishes: list[Wish]) -> ClientProcess:
        client = ClientProcess(self, name, ClientPlan(tasks=0, timeout=30.0, calls=0, pause_seconds=0.0))
        client.make(wishes)
        self._wait_for([client])
        return client

    def _wait_for(self, clients: list[ClientProcess]) -> None:
        done = self.clock.advance(self.clock.now + WORK_SECONDS_MAX, lambda: not any(client.busy for client in clients))
        self.require(done, f"a call hangs: not all of them ended within {WORK_SECONDS_MAX:g} s")

    def _now(self) -> float:
        return self.clock.now

    def _told(self, text: str) -> str:
        return f"seed {self.seed}: {text}\n\n{self.scenario}\n\n{self.history}"

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        """Nothing decided by another source of chance, nothing logged, and this scenario's limits."""
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            with ExitStack() as stack:
                chance = SimpleNamespace(urandom=self.random.randbytes)
                stack.enter_context(mock.patch("holdall.client.operations.catalog.os", chance))
                stack.enter_context(mock.patch("holdall.client.operations.large.urandom", self.random.randbytes))
                stack.enter_context(mock.patch("holdall.client.operations.entries.randrange", self.random.randrange))
                for module in ("client", "connection.awaiting", "connection.blocking", "connection.driver"):
                    stack.enter_context(mock.patch(f"holdall.client.{module}.monotonic", self._now))
                for name, limit in self.scenario.limits.items():
                    stack.enter_context(mock.patch(name, limit))
                yield
        finally:
            logging.disable(level)
