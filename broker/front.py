"""The broker's ZeroMQ socket: clients of other machines come to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zmq

from holdall import frames, protocol
from holdall.broker.unsent import Unsent
from holdall.service.address import listen

if TYPE_CHECKING:
    from holdall.broker.core import Decide
    from holdall.service.watch import Watch

MESSAGES_PER_TURN = 200
"""Messages taken before others have their turn."""
LINGER_MILLISECONDS = 500


class Front:
    """A ROUTER that is bound to these URLs; `decide` is the core's, for what comes from clients."""

    def __init__(self, urls: list[str], watch: Watch, decide: Decide) -> None:
        self._context: Any = zmq.Context()
        self._router: Any = self._context.socket(zmq.ROUTER)
        self._router.maxmsgsize = protocol.FRAME_BYTES_MAX
        self._router.router_mandatory = True
        self._router.zap_domain = b"holdall"
        for url in urls:
            listen(self._router, url)
        self._unsent = Unsent()
        self._decide = decide
        self._watch = watch
        watch.add(int(self._router.fd), self)
        watch.touch(self)

    def take(self) -> tuple[list[tuple[Decide, list[Any]]], int]:
        """What has come, each message with its route first; its work in bytes is not counted."""
        messages: list[tuple[Decide, list[Any]]] = []
        while frames.waits(self._router):
            messages.append((self._decide, frames.receive(self._router, 2)))
            if len(messages) == MESSAGES_PER_TURN:
                self._watch.touch(self)
                break
        return messages, 0

    def send(self, route: bytes, message: list[Any]) -> bool:
        """Send a message. Returns False if too much waits for this client already, or it is gone."""
        self._watch.touch(self)
        try:
            return self._unsent.send(self._router, [route, *message])
        except zmq.ZMQError:
            return False

    def close(self) -> None:
        """Say what is left to say, and end."""
        self._router.close(LINGER_MILLISECONDS)
        self._context.term()
