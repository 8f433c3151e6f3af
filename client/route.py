"""How one line reaches a worker: through the broker always, and by a lane where the worker answers there.

    relayed ── PROBE answered ──▶ direct ── cannot be sent, or an answer is overdue ──▶ relayed, and probed again later

A route is direct only after the worker itself has answered a PROBE on it with the layout's id and its number: the path in the
roster may lead to another service on this machine, and another service's slots are none of ours.

When a route becomes direct, or is lost, all that waits for its worker goes again the new way, in order and before anything
newer.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from holdall import protocol
from holdall.bodies import Identity, RosterWorker, encode
from holdall.errors import ProtocolError
from holdall.protocol import Buffer, Reply, Request

if TYPE_CHECKING:
    from holdall.client.transport import Transport

PROBE_SECONDS = (0.002, 5.0)
"""How soon a worker is probed again that did not answer a probe, or was given up: at first, and at most; doubled each time."""
STEADY_SECONDS = 10.0
"""A route that was direct for so long is probed again as soon as at first when it is given up."""


class Route:
    """To one worker. `lane` is the one that its line has opened last."""

    __slots__ = (
        "_direct_at",
        "_identity",
        "_interval",
        "_nonce",
        "_random",
        "address",
        "hash",
        "is_direct",
        "lane",
        "probe_at",
    )

    def __init__(self, worker: RosterWorker, layout_id: bytes, address: str | None, random: Random) -> None:
        self.address = address
        self.hash = worker.hash
        self.is_direct = False
        self.probe_at = 0.0
        """When to probe next, if there is an address to try."""
        self.lane: Transport | None = None
        self._identity = encode(Identity(layout_id, worker.index))
        self._random = random
        self._nonce = 0
        self._interval = PROBE_SECONDS[0]
        self._direct_at = 0.0

    def probe(self, now: float) -> list[Buffer]:
        """The message that asks for the worker's identity, to be sent by the lane."""
        self._nonce = self._random.getrandbits(63) | 1
        self._put_off(now)
        return protocol.pack_request(
            Request(protocol.PROBE, 0, self.hash, protocol.NO_SESSION, self._nonce, 0, protocol.NO_DICT, b"", b"")
        )

    def is_proved_by(self, head: bytes, now: float) -> bool:
        """Whether this message, which came by the lane, answers the probe: from now on the route is direct."""
        try:
            proved = protocol.parse_reply(head) == Reply(protocol.OK, self._nonce, 0, self._identity)
        except ProtocolError:
            return False
        if proved:
            self.is_direct = True
            self._direct_at = now
        return proved

    def lose(self, now: float) -> None:
        """Give the lane up, for a while."""
        self.is_direct = False
        if now - self._direct_at > STEADY_SECONDS:
            self._interval = PROBE_SECONDS[0]
        self._put_off(now)

    def _put_off(self, now: float) -> None:
        self.probe_at = now + self._interval * self._random.uniform(0.75, 1.25)
        self._interval = min(self._interval * 2, PROBE_SECONDS[1])
