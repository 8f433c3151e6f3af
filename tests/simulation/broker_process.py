"""The broker as a process: the real loop and core, on the virtual network, killed, stopped and started again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from holdall.broker import core
from holdall.broker.core import Broker
from holdall.broker.front import OWNERS
from holdall.broker.loop import Loop
from holdall.broker.router import Delivery
from tests.simulation.network import Frames, Listener, Unreachable
from tests.simulation.thread import Thread

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

FULL_SHARE = 0.5
"""Of the messages to workers that cannot be sent: how many have to wait. The others find nobody."""


class BrokerProcess:
    """One life after the other of the broker; `front` is for clients, `back` for workers."""

    def __init__(self, simulation: Simulation) -> None:
        self.front = Listener(simulation.network)
        self.back = Listener(simulation.network)
        self.broker: Broker | None = None
        self.main: Thread
        self.simulation = simulation

    def start(self) -> None:
        """Begin with nothing."""
        simulation = self.simulation
        self.broker = broker = simulation.cores.broker(simulation.random.randbytes(8))
        poller = Poller(self)
        front, back = FrontSide(self, poller, self.front), Side(self, poller, self.back)
        loop = Loop(broker, poller, front, back, lambda _text: None, now=lambda: simulation.clock.now)
        self.main = Thread(simulation.clock, loop.run)
        self.front.open(front.deliver)
        self.back.open(back.deliver)

    def kill(self, seconds: float) -> None:
        """Die, and be started again after so long."""
        if self.broker is None:
            return
        self.simulation.history.note("broker", f"is killed, for {seconds:.2f} s")
        self.broker = None
        self.main.kill()
        self.front.close()
        self.back.close()
        self.simulation.clock.call_in(seconds, self.start)

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        if self.broker is None or self.main.is_stopped:
            return
        self.simulation.history.note("broker", f"is stopped, for {seconds:.2f} s")
        self.main.stop()
        self.simulation.clock.call_in(seconds, self.main.resume)

    def check(self) -> None:
        """Fail if what is parked is out of its bounds, or miscounted."""
        if self.broker is None:
            return
        parked, counted = self.broker._parked, self.broker._parked_bytes
        if len(parked) > core.PARKED_REQUESTS_MAX or counted > core.PARKED_BYTES_MAX:
            self.simulation.fail(f"{len(parked)} requests of {counted} bytes are parked")
        self.simulation.require(counted == sum(each.bytes for each in parked), "the parked bytes are miscounted")


class Poller:
    """What the loop waits for."""

    is_over = False

    def __init__(self, process: BrokerProcess) -> None:
        self._process = process
        self._ready: dict[Any, None] = {}

    def look_again(self, source: object) -> None:
        self._ready[source] = None
        self._process.main.wake()

    def defer(self, sources: list[Any]) -> None:
        self._ready = {**dict.fromkeys(sources), **self._ready}

    def wait(self, now: float, until: float, *, spins: bool = True) -> list[Any]:
        self._process.check()
        main = self._process.main
        while not self._ready and until > self._process.simulation.clock.now:
            main.wait(until - self._process.simulation.clock.now)
        main.wait(0.0)
        ready, self._ready = self._ready, {}
        return list(ready)


class Side:
    """One of the two ROUTERs."""

    is_reachable = True

    def __init__(self, process: BrokerProcess, poller: Poller, listener: Listener) -> None:
        self._process = process
        self._poller = poller
        self._listener = listener
        self._messages: deque[Frames] = deque()

    def deliver(self, frames: Frames) -> None:
        """A message has arrived."""
        self._messages.append(with_memoryview(frames, 2))
        self._poller.look_again(self)

    def take(self) -> Iterator[Frames]:
        while self._messages:
            yield self._messages.popleft()

    def send(self, frames: Frames) -> Delivery:
        process, faults = self._process, self._process.simulation.faults
        faults.strike_broker()
        process.main.checkpoint()
        if self._listener is process.back and faults.pipe_is_full():
            return Delivery.FULL if process.simulation.random.random() < FULL_SHARE else Delivery.GONE
        try:
            self._listener.send(frames)
        except Unreachable:
            return Delivery.GONE
        return Delivery.SENT


class FrontSide(Side):
    """The one for clients, all of them of the service's own user."""

    def take(self) -> Iterator[Frames]:
        for route, *frames in super().take():
            yield [OWNERS + route, *frames]

    def send(self, frames: Frames) -> Delivery:
        return super().send([frames[0][1:], *frames[1:]])

    def admit(self) -> None:
        """There are no keys."""

    def check(self, _now: float) -> list[bytes]:
        return []


def with_memoryview(frames: Frames, small: int) -> Frames:
    """A message as it comes off a socket: what follows the first frames is a memoryview."""
    return [*frames[:small], *(memoryview(frame) for frame in frames[small:])] if len(frames) > small else frames
