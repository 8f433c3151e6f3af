"""How a line's messages travel: to the broker (`holdall.client.dealer`), or by a lane to a worker (`holdall.client.lane`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from holdall.framing import Received
    from holdall.protocol import Buffer


class Transport(Protocol):
    """Where messages go and come from."""

    is_broken: bool
    """Whether nothing goes this way any more."""

    def send(self, message: list[Buffer]) -> bool:
        """Send a message. Returns False if it does not go now."""
        ...

    def receive(self, *, wait: bool) -> list[Received]:
        """What comes next, if anything does, or is there, unless `wait`."""
        ...

    def fileno(self) -> int:
        """Its descriptor."""
        ...

    def close(self) -> None:
        """Give it up."""
        ...
