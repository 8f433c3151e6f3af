"""The virtual network, as ZeroMQ behaves, and a stream.

A Socket (a DEALER) connects to a Listener (a ROUTER). A connection has a route of its own and two directions; each is first
in, first out, and nothing is ordered between two connections. When a connection breaks, some of what was in flight still
arrives, the rest is lost, and each side notices in its own time; what it sends until then vanishes. A socket then connects
again, under another route, and tells of the new connection; what it is given until then it keeps, or refuses. A stream ends
instead, and tells so. Who listens and who connects is not decided here: any process may do either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from tests.simulation.clock import Clock
from tests.simulation.weather import Weather

Frames = list[Any]

QUEUED_MESSAGES_MAX = 1_000
"""What a socket keeps while it has no connection: ZeroMQ's high-water mark."""
RECONNECT_SECONDS = (0.02, 0.5)
CLOSED_SECONDS = 0.05
"""The end of a process is noticed within this time by whoever is connected to it."""


class Unreachable(Exception):
    """A listener has no such route: EHOSTUNREACH."""


class Direction:
    """One direction of a connection. `deliver` is called with the frames of each message that arrives."""

    def __init__(self, network: Network, deliver: Callable[[Frames], None], name: str) -> None:
        self._clock = network.clock
        self._weather = network.weather
        self._trace = network.trace
        self._deliver = deliver
        self._name = name
        self._last_due = 0.0
        self._flying: deque[int] = deque()
        self._sent = 0
        self._broken = False

    def send(self, frames: Frames) -> None:
        """Send a message; it vanishes if the connection is broken."""
        if self._broken:
            return
        for _ in range(self._weather.copies()):
            self._last_due = max(self._last_due, self._clock.now + self._weather.delay())
            self._sent += 1
            self._flying.append(self._sent)
            self._clock.call_at(self._last_due, self._arrive, self._sent, frames)

    def sever(self, arriving: float) -> None:
        """Carry nothing more; the first part of what is in flight still arrives."""
        self._broken = True
        for _ in range(len(self._flying) - round(arriving * len(self._flying))):
            self._flying.pop()

    def _arrive(self, number: int, frames: Frames) -> None:
        if self._flying and self._flying[0] == number:
            self._flying.popleft()
            if self._trace is not None:
                self._trace(self._name, frames)
            self._deliver(frames)


class Connection:
    """Between a socket and a listener, under the route that the listener knows it by."""

    def __init__(self, network: Network, socket: Socket, listener: Listener) -> None:
        self.route = b"\x00" + network.random.randbytes(4)
        self.name = f"{socket.name} by {self.route.hex()[2:]}"
        self.socket = socket
        self.listener = listener
        self.up = Direction(network, lambda frames: listener.deliver([self.route, *frames]), f"up {self.name}")
        self.down = Direction(network, socket.deliver, f"down {self.name}")

    def sever(self, *, up: float, down: float, socket_notices: float, listener_notices: float) -> None:
        """Break. `up` and `down` say which part of what is in flight arrives, the rest when each side notices."""
        self.up.sever(up)
        self.down.sever(down)
        clock = self.socket.network.clock
        clock.call_in(socket_notices, self.socket.notice, self)
        clock.call_in(listener_notices, self.listener.notice, self)


class Listener:
    """A ROUTER that refuses routes it does not know."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.is_open = False
        self.deliver: Callable[[Frames], None] = lambda frames: None
        self._connections: dict[bytes, Connection] = {}

    def open(self, deliver: Callable[[Frames], None]) -> None:
        """Begin: `deliver` is called with [route, frames…]."""
        self.is_open = True
        self.deliver = deliver

    def close(self) -> None:
        """The process has ended: what it had sent may arrive, what is on its way to it is lost."""
        self.is_open = False
        random = self.network.random
        for connection in self._connections.values():
            connection.sever(up=0, down=random.random(), socket_notices=random.random() * CLOSED_SECONDS, listener_notices=0)
        self._connections.clear()

    def accept(self, connection: Connection) -> None:
        """Take a connection in."""
        self._connections[connection.route] = connection

    def notice(self, connection: Connection) -> None:
        """This connection is broken."""
        self._connections.pop(connection.route, None)

    def send(self, frames: Frames) -> None:
        """Send [route, frames…]. Raises Unreachable."""
        connection = self._connections.get(frames[0])
        if connection is None:
            raise Unreachable
        connection.down.send(frames[1:])


class Socket:
    """A DEALER that connects, and connects again, to one listener: `came_back` is called when what was sent before may be lost,
    or something was refused. It `queues` what it is given without a connection, or refuses it.

    A stream connects once: `ended` is called when there is no connection, or no longer.
    """

    def __init__(
        self,
        network: Network,
        name: str,
        listener: Listener,
        deliver: Callable[[Frames], None],
        *,
        is_stream: bool = False,
        queues: bool = True,
    ) -> None:
        self.network = network
        self.name = name
        self.deliver = deliver
        self.ended: Callable[[], None] = lambda: None
        self.came_back: Callable[[], None] = lambda: None
        self.connection: Connection | None = None
        self._is_stream = is_stream
        self._listener = listener
        self._queues = queues
        self._is_missed = False
        self._queue: deque[Frames] = deque(maxlen=QUEUED_MESSAGES_MAX)
        self._closed = False
        self._cut_until = 0.0
        network.clock.call_in(network.weather.delay(), self._connect)

    def send(self, frames: Frames) -> bool:
        """Send a message, or keep it, or lose it. Returns whether there is a connection, or it is kept."""
        if self.connection is not None:
            self.connection.up.send(frames)
        elif self._queues and not self._closed:
            self._queue.append(frames)
        else:
            self._is_missed = True
            return False
        return True

    def cut(self, seconds: float) -> None:
        """Have no connection for so long; each side notices at any time, the socket at the end at the latest."""
        random = self.network.random
        self._cut_until = self.network.clock.now + seconds
        if self.connection is not None:
            self.connection.sever(
                up=random.random(),
                down=random.random(),
                socket_notices=random.random() * seconds,
                listener_notices=random.random() * seconds * 2,
            )

    def close(self) -> None:
        """The process has ended: what it had sent may arrive."""
        self._closed = True
        random = self.network.random
        self._queue.clear()
        if self.connection is not None:
            self.connection.sever(
                up=random.random(), down=0, socket_notices=0, listener_notices=random.random() * CLOSED_SECONDS
            )
            self.connection = None

    def notice(self, connection: Connection) -> None:
        """This connection is broken."""
        if self.connection is connection:
            self.connection = None
            if self._is_stream:
                self._end()
            else:
                self._connect()

    def _end(self) -> None:
        self._closed = True
        self.ended()

    def _connect(self) -> None:
        if self._closed or self.connection is not None:
            return
        network = self.network
        if not self._listener.is_open or network.clock.now < self._cut_until:
            if self._is_stream:
                self._end()
                return
            network.clock.call_in(network.random.uniform(*RECONNECT_SECONDS), self._connect)
            return
        self.connection = Connection(network, self, self._listener)
        self._listener.accept(self.connection)
        while self._queue:
            self.connection.up.send(self._queue.popleft())
        is_missed, self._is_missed = self._is_missed, True
        if is_missed:
            self.came_back()


class Network:
    """What all sockets and listeners share. `trace` is told of each message that arrives, and in which direction."""

    def __init__(self, clock: Clock, random: Random, weather: Weather, trace: Callable[[str, Frames], None] | None) -> None:
        self.clock = clock
        self.random = random
        self.weather = weather
        self.trace = trace
