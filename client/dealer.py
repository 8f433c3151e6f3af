"""The way through a broker of another machine: a ZeroMQ socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zmq

from holdall import frames
from holdall.protocol import has_payload_frame
from holdall.stream import Received

if TYPE_CHECKING:
    from holdall.protocol import Buffer


class Dealer:
    """On a DEALER. ZeroMQ connects again by itself, so this way never breaks."""

    is_broken = False

    def __init__(self, dealer: Any, receive_milliseconds: int = -1) -> None:
        dealer.rcvtimeo = receive_milliseconds
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
