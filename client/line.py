"""A line: a channel and its ways. What both drivers have in common: which way a message goes, and whose answer came.

Each has a way through the broker; a straight one is opened when its worker is first asked something.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from holdall.client.channel import Channel, Waiting
from holdall.client.route import Route
from holdall.protocol import Buffer, Reply
from holdall.stream import Received

if TYPE_CHECKING:
    from holdall.client.client import Client
    from holdall.client.way import Way

Answered = list[tuple[Waiting, Reply]]


class Line:
    """The ways of one channel, for a driver."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._channel: Channel = client.new_channel()
        self._relay = self._open_relay()
        self._knows_workers = False
        self.straight: list[Route] = []
        """The routes that have had a straight way."""

    @property
    def ways(self) -> list[Way]:
        """All that were opened last."""
        return [self._relay, *(route.way for route in self.straight if route.way is not None)]

    def _now(self) -> float:
        return monotonic()

    def _open_relay(self) -> Way:
        """The way through the broker."""
        raise NotImplementedError

    def _open_straight(self, address: str, route: Route) -> Way | None:
        """A way to the worker at this address, if one answers there."""
        raise NotImplementedError

    def _meet(self) -> None:
        """Know the workers, once the client does."""
        self._knows_workers = self._client.knows_workers
        if self._knows_workers:
            self._channel.meet(self._client.roster, self._client.straight_address)

    def _approach(self, route: Route, now: float) -> None:
        """Ask now and then whether this worker answers straight."""
        if route.address is None or now < route.probe_at:
            return
        if route.way is None or route.way.is_broken:
            if route not in self.straight:
                self.straight.append(route)
            route.way = self._open_straight(route.address, route)
        probe = route.probe(now)
        if route.way is not None:
            route.way.put(probe)

    def _transmit(self, route: Route, message: list[Buffer]) -> None:
        """Send what is for this worker. What finds no way goes again when it is overdue."""
        if not route.is_direct or route.way is None:
            self._relay.put(message)
        elif not route.way.put(message):
            self._lose(route)

    def _lose(self, route: Route) -> None:
        """The straight way is gone: all that waits for this worker goes through the broker."""
        route.lose(self._now())
        for waiting in self._channel.moved(route):
            self._relay.put(waiting.frames)

    def _read(self, way: Way, route: Route | None, *, wait: bool) -> tuple[Answered, bool]:
        """The answers in what comes next this way, a straight one of `route`; and whether anything came."""
        received = way.read(wait=wait)
        answered: Answered = []
        for each in received:
            answered += self._heard(route, each)
        if way.is_broken and route is not None and route.is_direct and route.way is way:
            self._lose(route)
        return answered, bool(received)

    def _heard(self, route: Route | None, received: Received) -> Answered:
        """The answers in a message; `route` says which worker's straight way it came, if it did."""
        if route is None or route.is_direct or not route.is_proved_by(received.head, self._now()):
            return self._channel.receive(received.head, received.payload)
        for waiting in self._channel.moved(route):
            self._transmit(route, waiting.frames)
        return []
