"""The ways a line's messages go: through the broker, or straight to a worker (`holdall.client.straight`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import zmq

from holdall import frames
from holdall.protocol import has_payload_frame
from holdall.stream import Received

if TYPE_CHECKING:
    from holdall.protocol import Buffer


class Way(Protocol):
    """Where messages go and come from."""

    is_broken: bool
    """Whether nothing goes this way any more."""

    def put(self, message: list[Buffer]) -> bool:
        """Send a message. Returns False if it does not go this way now."""
        ...

    def read(self, *, wait: bool) -> list[Received]:
        """What comes next, if anything does, or is there, unless `wait`."""
        ...

    def fileno(self) -> int:
        """Its descriptor."""
        ...

    def close(self) -> None:
        """Give it up."""
        ...


class Relayed:
    """Through the broker. ZeroMQ connects again by itself, so this way never breaks."""

    is_broken = False

    def __init__(self, dealer: Any) -> None:
        self._dealer = dealer

    def put(self, message: list[Buffer]) -> bool:
        """Send a message."""
        try:
            frames.send(self._dealer, message)
        except zmq.ZMQError:  # its queue is full, or it was closed meanwhile
            return False
        return True

    def read(self, *, wait: bool) -> list[Received]:
        """What comes next, or is there."""
        try:
            head = self._dealer.recv(0 if wait else zmq.DONTWAIT)
            return [Received(head, self._dealer.recv(copy=False).buffer if has_payload_frame(head) else None)]
        except zmq.Again:
            return []

    def fileno(self) -> int:
        """Its descriptor."""
        return int(self._dealer.fd)

    def close(self) -> None:
        """Give it up."""
        self._dealer.close(0)
