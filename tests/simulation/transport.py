"""The transports of a simulated line: what `holdall.client.dealer` and `holdall.client.lane` are to the real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdall.framing import Received
from tests.simulation.network import Frames, Socket


class Transport:
    """Over a socket. `received` is called with what comes, `ended` when a stream ends, `came_back` when what was sent to a
    DEALER's peer may be lost, or was refused.
    """

    def __init__(
        self,
        socket: Socket,
        received: Callable[[Frames], None],
        ended: Callable[[], object] = lambda: None,
        came_back: Callable[[], object] = lambda: None,
    ) -> None:
        self.is_broken = False
        self.socket = socket
        self._ended = ended
        self._came_back = came_back
        self._has_come_back = False
        socket.deliver = received
        socket.ended = self._end
        socket.came_back = self._note

    def send(self, message: list[Any]) -> bool:
        """Send a message."""
        return self.socket.send(message)

    def receive(self, *, wait: bool) -> list[Received]:
        """Nothing: what comes is told at once."""
        return []

    def has_come_back(self) -> bool:
        """Whether there is another connection than before, or the first one after something was refused."""
        come, self._has_come_back = self._has_come_back, False
        return come

    def fileno(self) -> int:
        """None."""
        return -1

    def close(self) -> None:
        """Give it up."""
        self.is_broken = True
        self.socket.close()

    def _end(self) -> None:
        self.is_broken = True
        self._ended()

    def _note(self) -> None:
        self._has_come_back = True
        self._came_back()
