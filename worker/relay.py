"""The worker's socket to its broker: what is relayed comes in and goes out here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zmq

from holdall import frames, protocol
from holdall.blob import CHUNK_BYTES
from holdall.service.unsent import Unsent
from holdall.worker.core import Answer, Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdall.protocol import Buffer
    from holdall.service.watch import Watch

MESSAGES_PER_TURN = 500
BYTES_PER_TURN = 8 * 1024 * 1024
"""Of many clients at once, the chunks they ask for included."""


class Relay:
    """A DEALER that is connected to the broker. `refuse` answers what is no request, given as [route, frames…]."""

    def __init__(self, dealer: Any, watch: Watch, refuse: Callable[[Relay, list[Any]], list[Answer]]) -> None:
        self._dealer = dealer
        self._watch = watch
        self._refuse = refuse
        self._unsent = Unsent()
        watch.add(dealer.fd, self)
        watch.touch(self)

    def take(self) -> tuple[list[Message], int]:
        """What has been relayed, and how much work in bytes that is."""
        messages: list[Message] = []
        size = 0
        while len(messages) < MESSAGES_PER_TURN and size < BYTES_PER_TURN:
            if not frames.waits(self._dealer):
                return messages, size
            parts = frames.receive(self._dealer, 2)
            if 2 <= len(parts) <= 3:
                messages.append(Message(self, *parts))
                size += sum(map(len, parts)) + (CHUNK_BYTES if protocol.reads_chunk(parts[1]) else 0)
            else:
                for answer in self._refuse(self, parts):
                    self.send(answer.route, answer.frames)
        self._watch.touch(self)  # there may be more
        return messages, size

    def send(self, route: bytes, message: list[Buffer]) -> None:
        """Send an answer. If its client does not read, it will ask again."""
        self._watch.touch(self)
        try:
            self._unsent.send(self._dealer, [route, *message])
        except zmq.ZMQError:  # the broker is gone, or does not read
            pass

    def tell(self, said: bytes) -> bool:
        """Tell the broker itself something. Returns whether it is on its way."""
        self._watch.touch(self)
        try:
            frames.send(self._dealer, [b"", said])
        except zmq.ZMQError:
            return False
        return True
