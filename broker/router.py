"""One of the broker's two ROUTERs: what came to it, and what goes out."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, Any

import zmq

from holdall import sockets
from holdall.framing import SCHEME, path_of
from holdall.process.admission import closed_url
from holdall.process.listen import listen
from holdall.process.unsent import Unsent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdall.process.poller import SystemPoller

MESSAGES_PER_TURN = 200
"""Messages taken before the other socket has its turn."""
ROUTER_LINGER_MILLISECONDS = 500


class Delivery(Enum):
    """What became of a message: sent, or its peer has no room for it now, or there is no such peer."""

    SENT = 0
    FULL = 1
    GONE = 2


class Router:
    """A ROUTER that is bound to these URLs. The first `small` frames of a message are received as bytes. It may be a part of
    another `source`, as the poller sees it.
    """

    def __init__(self, router: Any, urls: list[str], poller: SystemPoller, small: int, source: object = None) -> None:
        for url in urls:
            listen(router, url)
        self._paths = [path_of(url) for url in urls if url.startswith(SCHEME)]
        self._router = router
        self._unsent = Unsent()
        self._small = small
        self._poller = poller
        self._source = source or self
        poller.add(int(router.fd), self._source)
        self.look_again()

    def take(self) -> Iterator[list[Any]]:
        """Messages, each with its sender's route first, one by one: they may be large. Who leaves some calls `look_again`."""
        for _ in range(MESSAGES_PER_TURN):
            if not sockets.has_message(self._router):
                return
            yield sockets.receive(self._router, self._small)
        self.look_again()

    def look_again(self) -> None:
        """Have the poller give this again, whatever its descriptor says: that is edge-triggered."""
        self._poller.look_again(self._source)

    def send(self, frames: list[Any]) -> Delivery:
        self.look_again()
        try:
            return Delivery.SENT if self._unsent.send(self._router, frames[0], frames) else Delivery.FULL
        except zmq.Again:
            return Delivery.FULL
        except zmq.ZMQError:
            return Delivery.GONE

    def most_unsent(self) -> bytes | None:
        """The route of the peer for which most waits, if an answer was dropped since the last call for want of room for all."""
        return self._unsent.most()

    @property
    def is_reachable(self) -> bool:
        """Whether its sockets are still where clients look: whoever cleans up temporary directories may have removed them."""
        return all(os.path.exists(path) or os.path.exists(closed_url(path)) for path in self._paths)

    def close(self) -> None:
        """Close it, with some time for what is still to be sent."""
        self._router.close(ROUTER_LINGER_MILLISECONDS)
