"""What both drivers have in common: a session and its transports.

A driver has a transport to the broker, and a lane to each worker that answers on one. It sends what the session gives out, and
gives the session what comes; it decides nothing.
"""

from __future__ import annotations

from time import monotonic

from holdall.bodies import Roster

from .session import Link, Pending, Session
from .transport import BrokerTransport, Connector, Transport

DRAIN_MAX = 1_000
"""Times that one transport is read in a row: its peer may send without end."""
CHECK_SECONDS = 0.25
"""How often it is checked whether an answer is overdue."""


class Driver:
    """Drives one session over the transports of `connector`."""

    def __init__(self, connector: Connector, session: Session) -> None:
        self.knows_workers = False
        """Whether `meet` was called."""
        self.is_refused = False
        """Whether the service does not let this client in: another driver may come in, later."""
        self._connector = connector
        self._session = session
        self._broker = self._open_broker()

    def meet(self, roster: Roster) -> None:
        """Know the workers from now on."""
        self._session.meet(roster, self._connector.lane_address)
        self.knows_workers = True

    @property
    def transports(self) -> list[Transport]:
        """All that were opened last."""
        return [self._broker, *(link.lane for link in self._session.links if link.lane is not None)]

    def _open_broker(self) -> BrokerTransport:
        raise NotImplementedError

    def _open_lane(self, address: str, link: Link) -> Transport | None:
        raise NotImplementedError

    def _send_outgoing(self, now: float) -> bool:
        """Send what the session has to send. Returns whether any went to the broker; what that leaves goes again later."""
        is_relayed = False
        while self._session.outbox:
            for link, messages in self._session.outgoing():
                if not link.is_direct:
                    self._probe(link, now)
                for message in messages:
                    if not link.is_direct or link.lane is None:
                        self._broker.send(message)
                        is_relayed = True
                    elif not link.lane.send(message):
                        self._session.lose(link, now)  # so all of this goes again
                        break
        return is_relayed

    def _probe(self, link: Link, now: float) -> None:
        """Ask now and then whether this worker answers by a lane."""
        probe = link.probe(now)
        if probe is None or link.address is None:
            return
        if link.lane is None or link.lane.is_broken:
            link.lane = self._open_lane(link.address, link)
        if link.lane is not None:
            link.lane.send(probe)

    def _receive(self, transport: Transport, link: Link | None, *, wait: bool) -> tuple[list[Pending], bool]:
        """The requests answered by what comes next here, on a lane of `link` or from the broker; and whether anything came."""
        received = transport.receive(wait=wait)
        answered: list[Pending] = []
        for each in received:
            answered += self._session.receive(link, each, monotonic())
        if link is not None and link.is_direct and link.lane is transport and transport.is_broken:
            self._session.lose(link, monotonic())
        return answered, bool(received)
