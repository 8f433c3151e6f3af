"""A line: a channel and its sockets. What both drivers have in common: which way a message goes, and whose answer came.

Each has a socket to the broker; straight ones are opened when their worker is first asked something. A straight socket takes
a message only while it is connected: one that does not is noticed at once, and not after an answer is overdue.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import zmq

from holdall import frames
from holdall.client.channel import Channel, Waiting
from holdall.client.route import Route
from holdall.errors import ConnectionError
from holdall.protocol import Buffer, Reply, has_payload_frame

if TYPE_CHECKING:
    from holdall.client.client import Client

Answered = list[tuple[Waiting, Reply]]


class Line:
    """The sockets of one channel, for a driver."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._channel: Channel = client.new_channel()
        self._relay: Any = self._opened(client.new_socket(client.address))
        self._knows_workers = False
        self.straight: list[Route] = []
        """The routes that have a socket of their own."""

    @property
    def sockets(self) -> list[Any]:
        """All that are open."""
        return [self._relay, *(route.socket for route in self.straight)]

    def _now(self) -> float:
        return monotonic()

    def _opened(self, socket: Any, route: Route | None = None) -> Any:
        """A socket is there: the broker's, or the straight one of a route."""
        return socket

    def _meet(self) -> None:
        """Know the workers, once the client does."""
        self._knows_workers = self._client.knows_workers
        if self._knows_workers:
            self._channel.meet(self._client.roster, self._client.straight_address)

    def _approach(self, route: Route, now: float) -> None:
        """Ask now and then whether this worker answers straight."""
        if route.address is None or now < route.probe_at:
            return
        if route.socket is None:
            try:
                socket = self._client.new_socket(route.address, immediate=True)
            except ConnectionError:  # the roster has an address that means nothing here
                route.address = None
                return
            self.straight.append(route)
            route.socket = self._opened(socket, route)
        self._put(route.socket, route.probe(now))

    def _transmit(self, route: Route, message: list[Buffer]) -> None:
        """Send what is for this worker. What finds no way goes again when it is overdue."""
        if not route.is_direct:
            self._put(self._relay, message)
        elif not self._put(route.socket, message):
            route.lose(self._now())
            for waiting in self._channel.moved(route):
                self._put(self._relay, waiting.frames)

    def _put(self, socket: Any, message: list[Buffer]) -> bool:
        """Send a message if there is room for it."""
        try:
            frames.send(socket, message)
        except zmq.ZMQError:  # no connection, or its queue is full, or the socket was closed meanwhile
            return False
        return True

    def _read(self, socket: Any, route: Route | None, flags: int) -> Answered:
        """The answers in the next message from this socket. Raises zmq.Again if there is none."""
        head = socket.recv(flags)
        payload = socket.recv(copy=False).buffer if has_payload_frame(head) else None
        return self._heard(route, head, payload)

    def _heard(self, route: Route | None, head: bytes, payload: Buffer | None) -> Answered:
        """The answers in a message; `route` says which worker's straight way it came, if it did."""
        now = self._now()
        if route is None or route.is_direct or not route.is_proved_by(head, now):
            return self._channel.receive(head, payload, now)
        for waiting in self._channel.moved(route):
            self._put(route.socket, waiting.frames)
        return []
