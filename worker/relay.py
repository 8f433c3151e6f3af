"""The worker's stream to its broker: what is relayed comes in and goes out here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdall.address import connected
from holdall.service.peers import Backlog, Peer
from holdall.stream import without_route
from holdall.worker.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.protocol import Buffer
    from holdall.service.watch import Watch


class Relay:
    """To the broker at this URL, connected whenever there is something to tell it. `lost` is called when it has gone."""

    def __init__(self, url: str, watch: Watch, lost: Callable[[], None]) -> None:
        self._url = url
        self._watch = watch
        self._lost = lost
        self._broker: Peer[Message] | None = None

    def tell(self, said: bytes) -> bool:
        """Tell the broker itself something. Returns whether it is on its way."""
        if self._broker is None:
            try:
                stream = connected(self._url)
            except OSError:
                return False
            self._broker = Peer(stream, b"broker", self._watch, _message, Backlog(), self._leave, routed=True)
        return self._broker.send(b"", [said])

    def _leave(self, _broker: Peer[Message]) -> None:
        self._broker = None
        self._lost()


def _message(broker: Peer[Message], _name: bytes, head: bytes, payload: Buffer | None) -> Message:
    route, head = without_route(head)
    return Message(broker, route, head, payload)
