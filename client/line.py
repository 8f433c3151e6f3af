"""A line: a channel and its ways. What both drivers have in common: which way a message goes, and whose answer came.

Each has a way through the broker, and another one when that is broken; a straight one is opened when its worker is first asked
something.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from holdall.client.channel import Channel, Waiting
from holdall.client.route import Route
from holdall.client.way import Nowhere
from holdall.errors import ConnectionError
from holdall.protocol import Buffer, Reply
from holdall.stream import Received

if TYPE_CHECKING:
    from holdall.client.client import Client
    from holdall.client.way import Way

BROKER_SECONDS = 0.02
"""How soon a broker that was not there is looked for again."""

Answered = list[tuple[Waiting, Reply]]


class Line:
    """The ways of one channel, for a driver."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._channel: Channel = client.new_channel()
        self._relay: Way = self._open_relay() or Nowhere()
        self._broker_at = 0.0
        self._knows_workers = False
        self.straight: list[Route] = []
        """The routes that have had a straight way."""

    @property
    def ways(self) -> list[Way]:
        """All that were opened last."""
        return [self._relay, *(route.way for route in self.straight if route.way is not None)]

    def _now(self) -> float:
        return monotonic()

    def _open_relay(self) -> Way | None:
        """A way through the broker, if there is one."""
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
            self._put_relayed(message)
        elif not route.way.put(message):
            self._lose(route)

    def _lose(self, route: Route) -> None:
        """The straight way is gone: all that waits for this worker goes through the broker."""
        route.lose(self._now())
        for waiting in self._channel.moved(route):
            self._put_relayed(waiting.frames)

    def _put_relayed(self, message: list[Buffer]) -> None:
        """Send, through the broker, what carries requests that wait."""
        if not self._relay.is_broken:
            self._relay.put(message)
        else:
            self._reach_broker()

    def _reach_broker(self) -> bool:
        """Look now and then for the broker, if the way there is broken. A new way takes all that waits there."""
        if not self._relay.is_broken:
            return True
        if self._now() < self._broker_at:
            return False
        self._broker_at = self._now() + BROKER_SECONDS
        with suppress(ConnectionError):  # no descriptor is left, for example: what waits has its own time to say so
            self._relay = self._open_relay() or self._relay
        if not self._relay.is_broken:
            for waiting in self._channel.relayed():
                self._relay.put(waiting.frames)
        return not self._relay.is_broken

    def _read(self, way: Way, route: Route | None, *, wait: bool) -> tuple[Answered, bool]:
        """The answers in what comes next this way, a straight one of `route`; and whether anything came."""
        received = way.read(wait=wait)
        answered: Answered = []
        for each in received:
            if route is None or route.is_direct:  # as mostly
                answered += self._channel.receive(each.head, each.payload)
            else:
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
