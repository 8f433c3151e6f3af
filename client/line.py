"""A line: a channel and its transports. What both drivers have in common: which way a message goes, and whose answer came.

Each has a DEALER to the broker; a lane is opened when its worker is first asked something.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from holdall.client.channel import Channel, Waiting
from holdall.client.route import Route
from holdall.framing import Received
from holdall.protocol import Buffer, Reply

if TYPE_CHECKING:
    from holdall.client.client import Client
    from holdall.client.dealer import Dealer
    from holdall.client.transport import Transport

Answered = list[tuple[Waiting, Reply]]


class Line:
    """The transports of one channel, for a driver."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._channel: Channel = client.new_channel()
        self.broker = self._open_broker()
        """The transport to the broker."""
        self._knows_workers = False
        self.routes: list[Route] = []
        """Those that have had a lane."""

    @property
    def transports(self) -> list[Transport]:
        """All that were opened last."""
        return [self.broker, *(route.lane for route in self.routes if route.lane is not None)]

    def _now(self) -> float:
        return monotonic()

    def _open_broker(self) -> Dealer:
        """A transport to the broker."""
        raise NotImplementedError

    def _open_lane(self, address: str, route: Route) -> Transport | None:
        """A lane to the worker at this address, if one answers there."""
        raise NotImplementedError

    def _meet(self) -> None:
        """Know the workers, once the client does."""
        self._knows_workers = self._client.knows_workers
        if self._knows_workers:
            self._channel.meet(self._client.roster, self._client.lane_address)

    def _approach(self, route: Route, now: float) -> None:
        """Ask now and then whether this worker answers by a lane."""
        if route.address is None or now < route.probe_at:
            return
        if route.lane is None or route.lane.is_broken:
            if route not in self.routes:
                self.routes.append(route)
            route.lane = self._open_lane(route.address, route)
        probe = route.probe(now)
        if route.lane is not None:
            route.lane.send(probe)

    def _transmit(self, route: Route, message: list[Buffer]) -> None:
        """Send what is for this worker. What is not taken goes again when it is overdue."""
        if not route.is_direct or route.lane is None:
            self.broker.send(message)
        elif not route.lane.send(message):
            self._lose(route)

    def _lose(self, route: Route) -> None:
        """The lane is gone: all that waits for this worker goes through the broker."""
        route.lose(self._now())
        for waiting in self._channel.moved(route):
            self.broker.send(waiting.frames)

    def _look_at_broker(self) -> None:
        """If there is another connection to the broker than before, what waits there may be lost: it goes again."""
        if self.broker.has_come_back():
            for waiting in self._channel.relayed():
                self.broker.send(waiting.frames)

    def _read(self, transport: Transport, route: Route | None, *, wait: bool) -> tuple[Answered, bool]:
        """The answers in what comes next here, on a lane of `route` or from the broker; and whether anything came."""
        received = transport.receive(wait=wait)
        answered: Answered = []
        for each in received:
            if route is None or route.is_direct:
                answered += self._channel.receive(each.head, each.payload)
            else:
                answered += self._heard(route, each)
        if transport.is_broken and route is not None and route.is_direct and route.lane is transport:
            self._lose(route)
        return answered, bool(received)

    def _heard(self, route: Route, received: Received) -> Answered:
        """The answers in what came by a lane that is not used yet."""
        if not route.is_proved_by(received.head, self._now()):
            return self._channel.receive(received.head, received.payload)
        for waiting in self._channel.moved(route):
            self._transmit(route, waiting.frames)
        return []
