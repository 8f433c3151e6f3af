"""The ways a line's messages go, straight to a worker or through the broker.

On one machine both are streams (`holdall.client.stream`); a broker of another machine is reached through ZeroMQ
(`holdall.client.dealer`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from holdall.protocol import Buffer
    from holdall.stream import Received


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


class Nowhere:
    """No way: nobody listens at the other end."""

    is_broken = True

    def put(self, message: list[Buffer]) -> bool:
        """It does not go."""
        return False

    def read(self, *, wait: bool) -> list[Received]:
        """Nothing comes."""
        return []

    def fileno(self) -> int:
        """None."""
        return -1

    def close(self) -> None:
        """There is nothing to give up."""
