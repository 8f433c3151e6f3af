"""The worker's DEALER to its broker: what is relayed comes in and goes out here.

It connects again by itself when the broker has gone, and keeps the worker's last HELLOs until then: the next broker hears of
the worker as soon as it is there.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import zmq

from holdall import protocol, sockets
from holdall.errors import ProtocolError, StorageError
from holdall.process.listen import refuse_shared
from holdall.process.unsent import Unsent

from .lanes import TURN_BYTES
from .message import Message, work_bytes

if TYPE_CHECKING:
    from holdall.process.poller import SystemPoller
    from holdall.protocol import Buffer

UPLINK_LINGER_MILLISECONDS = 100
"""A worker that ends waits so long for a broker that takes its last answers."""


class Uplink:
    """To the broker at this URL."""

    passes_files = False

    def __init__(self, url: str, poller: SystemPoller) -> None:
        refuse_shared(url)
        self._context = sockets.new_context()
        self._dealer = sockets.worker_dealer(self._context)
        self._dealer.connect(url)
        self._unsent = Unsent()
        self._held: deque[tuple[bytes, list[Buffer]]] = deque()
        self._poller = poller
        poller.add(int(self._dealer.fd), self)
        poller.look_again(self)

    def take(self) -> tuple[list[Message], int]:
        """What the broker relays, about TURN_BYTES of work, and how much; StorageError if it refuses this worker."""
        messages: list[Message] = []
        size = 0
        while self._held and self._goes(*self._held[0]):
            self._held.popleft()
        if self._held:
            return [], 0
        while sockets.has_message(self._dealer):
            if size >= TURN_BYTES:
                self._poller.look_again(self)
                break
            address, *frames = sockets.receive(self._dealer, 2)
            if address and 1 <= len(frames) <= 2:
                message = Message(self, address, *frames)
                messages.append(message)
                size += work_bytes(message.head, message.payload)
            elif not address and frames and frames[0]:  # else the broker looks whether this worker is connected
                with suppress(ProtocolError):
                    raise StorageError(bytes(protocol.parse_reply(frames[0]).payload).decode("utf-8", "replace"))
        return messages, size

    def send(self, address: bytes, frames: list[Buffer], _file: Any = None) -> bool:
        """Send to a client's address, held while there is no room, or (empty) to the broker. Returns False if it is dropped."""
        self._poller.look_again(self)
        if not self._held and self._goes(address, frames):
            return True
        if address:
            self._held.append((address, frames))
        return bool(address)

    def _goes(self, address: bytes, frames: list[Buffer]) -> bool:
        try:
            return self._unsent.send(self._dealer, b"", [address, *frames])
        except zmq.ZMQError:
            return False

    def close(self) -> None:
        """Close it, with some time for what is still to be sent."""
        self._dealer.close(UPLINK_LINGER_MILLISECONDS)
        self._context.term()
