"""The broker as a process: the loop of holdall.broker.loop on the virtual network, killed, stopped and started again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from holdall.broker import core
from holdall.broker.core import Broker, Send
from holdall.broker.loop import EXPIRE_SECONDS
from tests.simulation.network import Frames, Listener, Unreachable

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

Decide = Callable[[Frames, float], list[Send]]


class BrokerProcess:
    """One life after the other of the broker; `front` is for clients, `back` for workers."""

    def __init__(self, simulation: Simulation) -> None:
        self.front = Listener(simulation.network)
        self.back = Listener(simulation.network)
        self.broker: Broker | None = None
        self._simulation = simulation
        self._stopped = False
        self._unread: list[tuple[Decide, Frames]] = []

    def start(self) -> None:
        """Begin with nothing."""
        self.broker = broker = self._simulation.cores.broker(self._simulation.random.randbytes(8))
        self.front.open(lambda frames: self._receive(broker.from_client, frames))
        self.back.open(lambda frames: self._receive(broker.from_worker, frames))
        self._expire(broker)

    def kill(self, seconds: float) -> None:
        """Die, and be started again after so long."""
        if self.broker is None:
            return
        self._simulation.history.note("broker", f"is killed, for {seconds:.2f} s")
        self.broker = None
        self._stopped = False
        self._unread.clear()
        self.front.close()
        self.back.close()
        self._simulation.clock.call_in(seconds, self.start)

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        if self.broker is None or self._stopped:
            return
        self._simulation.history.note("broker", f"is stopped, for {seconds:.2f} s")
        self._stopped = True
        self._simulation.clock.call_in(seconds, self._wake, self.broker)

    def check(self) -> None:
        """Fail if what is parked is out of its bounds, or miscounted."""
        if self.broker is None:
            return
        parked, counted = self.broker._parked, self.broker._parked_bytes
        if len(parked) > core.PARKED_REQUESTS_MAX or counted > core.PARKED_BYTES_MAX:
            self._simulation.fail(f"{len(parked)} requests of {counted} bytes are parked")
        self._simulation.require(counted == sum(each.bytes for each in parked), "the parked bytes are miscounted")

    def _wake(self, broker: Broker) -> None:
        if self.broker is not broker or not self._stopped:
            return
        self._stopped = False
        unread, self._unread = self._unread, []
        for decide, frames in unread:
            self._receive(decide, frames)

    def _receive(self, decide: Decide, frames: Frames) -> None:
        if self._stopped:
            self._unread.append((decide, frames))
        elif self.broker is not None:
            self._send(self.broker, decide(with_memoryview(frames, 2), self._simulation.clock.now))
            self.check()

    def _send(self, broker: Broker, sends: list[Send]) -> None:
        faults = self._simulation.faults
        for to_worker, frames in sends:
            if len(sends) > 1 and faults.strike_broker():
                return
            try:
                if to_worker and faults.pipe_is_full():
                    raise Unreachable
                (self.back if to_worker else self.front).send(frames)
            except Unreachable:
                if to_worker:
                    self._send(broker, broker.unreachable(frames, self._simulation.clock.now))

    def _expire(self, broker: Broker) -> None:
        if self.broker is broker:
            if not self._stopped:
                self._send(broker, broker.expire(self._simulation.clock.now))
            self._simulation.clock.call_in(EXPIRE_SECONDS, self._expire, broker)


def with_memoryview(frames: Frames, small: int) -> Frames:
    """A message as it comes off a socket: what follows the first frames is a memoryview."""
    return [*frames[:small], *(memoryview(frame) for frame in frames[small:])] if len(frames) > small else frames
