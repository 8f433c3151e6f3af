"""The ways of a simulated line: what `holdall.client.way` and `holdall.client.stream` are to the real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdall.stream import Received
from tests.simulation.network import Frames, Socket


class Way:
    """Over a socket. `received` is called with what comes, `broken` when a stream ends."""

    def __init__(self, socket: Socket, received: Callable[[Frames], None], broken: Callable[[], object]) -> None:
        self.is_broken = False
        self.socket = socket
        self._broken = broken
        socket.deliver = received
        socket.ended = self._end

    def put(self, message: list[Any]) -> bool:
        """Send a message."""
        return self.socket.send(message)

    def read(self, *, wait: bool) -> list[Received]:
        """Nothing: what comes is told at once."""
        return []

    def fileno(self) -> int:
        """None."""
        return -1

    def close(self) -> None:
        """Give it up."""
        self.is_broken = True
        self.socket.close()

    def _end(self) -> None:
        self.is_broken = True
        self._broken()
