"""The seam of a simulated client: transports over the virtual network, for the real drivers.

A transport belongs to one life of a client. Whatever a life that has ended still does has no effect.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from holdall.bodies import RosterWorker
from holdall.framing import Received
from tests.simulation.network import Frames, Socket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.client_process import Life


class Transport:
    """Over a socket. `receive` waits for `wait_seconds` at most, as the thread of its life does."""

    def __init__(self, life: Life, socket: Socket, wait_seconds: float) -> None:
        self.is_broken = False
        self.socket = socket
        self._life = life
        self._wait_seconds = wait_seconds
        self._number = life.add(self)
        self._inbox: deque[Received] = deque()
        socket.deliver = self._deliver

    def send(self, message: list[Any]) -> bool:
        """Send a message."""
        return self._life.is_alive and not self.is_broken and self.socket.send(message)

    def receive(self, *, wait: bool) -> list[Received]:
        """The next message that is there, or comes soon."""
        if wait and not self.is_readable():
            self._life.wait(self._wait_seconds, self)
        return [self._inbox.popleft()] if self._inbox else []

    def is_readable(self) -> bool:
        """Whether `receive` does not wait."""
        return bool(self._inbox)

    def fileno(self) -> int:
        """A number that tells it from others."""
        return self._number

    def close(self) -> None:
        """Give it up."""
        self.is_broken = True
        if self._life.is_alive:
            self.socket.close()

    def _deliver(self, frames: Frames) -> None:
        self._inbox.append(Received(frames[0], memoryview(frames[1]) if len(frames) > 1 else None))
        self._life.notify(self.fileno(), self)


class LaneTransport(Transport):
    """A stream, which ends when there is nothing more to read, and on which an open file may come along."""

    def __init__(self, life: Life, socket: Socket, wait_seconds: float) -> None:
        super().__init__(life, socket, wait_seconds)
        self._has_ended = False
        socket.ended = self._end

    def send(self, message: list[Any]) -> bool:
        """Send a message."""
        self.is_broken = self.is_broken or self._has_ended
        return super().send(message)

    def receive(self, *, wait: bool) -> list[Received]:
        """The next message that is there, or comes soon."""
        received = super().receive(wait=wait)
        self.is_broken = self.is_broken or (self._has_ended and not received)
        return received

    def is_readable(self) -> bool:
        """Whether `receive` does not wait."""
        return self._has_ended or super().is_readable()

    def _deliver(self, frames: Frames) -> None:
        if len(frames) < 3:
            super()._deliver(frames)
            return
        self._inbox.append(Received(frames[0], None, frames[2]))
        self._life.notify(self.fileno(), self)

    def _end(self) -> None:
        self._has_ended = True
        self._life.notify(self.fileno(), self)


class BrokerTransport(Transport):
    """A DEALER, which connects again."""

    is_refused = False
    due = math.inf
    trouble = ""

    def __init__(self, life: Life, socket: Socket, wait_seconds: float) -> None:
        super().__init__(life, socket, wait_seconds)
        self._has_come_back = self._has_refused = False
        self._monitor_number = life.add(self)
        socket.came_back = self._come_back

    def send(self, message: list[Any]) -> bool:
        """Send a message."""
        is_sent = super().send(message)
        self._has_refused = self._has_refused or not is_sent
        return is_sent

    def is_readable(self) -> bool:
        """Whether `receive` does not wait."""
        return (self._has_refused and self._has_come_back) or super().is_readable()

    def has_come_back(self) -> bool:
        """Whether what was sent before may be lost."""
        come, self._has_come_back = self._has_come_back, False
        self._has_refused = self._has_refused and not come
        return come

    def monitor_fileno(self) -> int:
        """A number that tells it from others."""
        return self._monitor_number

    def _come_back(self) -> None:
        self._has_come_back = True
        self._life.notify(self.monitor_fileno(), self)


class SimulatedConnector:
    """Opens the transports of one life of a client."""

    is_local = False
    is_known = True
    layout = ""
    reads_only = False

    def __init__(self, life: Life, url: str) -> None:
        self.url = url
        self._life = life

    def open_broker(self, wait_seconds: float = 0.0) -> BrokerTransport:
        """A transport to the broker."""
        simulation = self._life.simulation
        socket = Socket(simulation.network, self._life.name, simulation.broker.front, lambda frames: None, queues=False)
        return BrokerTransport(self._life, socket, wait_seconds)

    def lane_address(self, worker: RosterWorker) -> str | None:
        """Where this worker may have a lane."""
        return worker.addresses[0] if self._life.plan.has_lanes else None

    def open_lane(self, address: str, wait_seconds: float = 0.0) -> LaneTransport:
        """A lane to the worker of this address."""
        simulation = self._life.simulation
        lanes = {f"ipc:///{machine.name.replace(' ', '-')}": machine.lanes for machine in simulation.machines}
        socket = Socket(simulation.network, self._life.name, lanes[address], lambda frames: None, is_stream=True)
        return LaneTransport(self._life, socket, wait_seconds)

    def open_awaiting_lane(self, address: str, loop: object) -> LaneTransport:
        """The same for a loop."""
        return self.open_lane(address)

    def finds_service(self) -> bool:
        """It is none of this machine's user."""
        return False

    def looks(self) -> Iterator[float]:
        """There is nothing to look for."""
        yield from ()

    def revive(self) -> None:
        """Nothing: no service of this machine's user is simulated."""

    def close(self) -> None:
        """Nothing is to be opened any more."""

    def forget_closed(self) -> None:
        """Some transports were closed."""

    def inherit(self) -> None:
        """In a child that another test forks."""
