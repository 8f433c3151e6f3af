"""The seam: all that a driver needs of the other side, and a client of the connector. Whatever carries the messages of this
protocol can stand behind it.

An engine that speaks another protocol has drivers of its own: what they run are the same operations (see `query`), which know
neither sockets nor sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from holdall.bodies import RosterWorker
    from holdall.framing import Received
    from holdall.protocol import Buffer


class Transport(Protocol):
    """Where messages go and come from."""

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be sent or received any more."""
        ...

    def send(self, message: list[Buffer]) -> bool: ...

    def receive(self, *, wait: bool) -> list[Received]:
        """What is there; with `wait` what comes next, if anything does within the time of this transport."""
        ...

    def fileno(self) -> int:
        """The descriptor that tells of messages."""
        ...

    def close(self) -> None: ...


class BrokerTransport(Transport, Protocol):
    """The transport that is always there: it connects again by itself, and its descriptors are edge-triggered."""

    def has_come_back(self) -> bool:
        """Whether what was sent before may be lost: there is another connection, or the first one after a refusal."""
        ...

    def monitor_fileno(self) -> int | None:
        """The descriptor that tells of `has_come_back`; None if that has its time, `due`."""
        ...

    @property
    def due(self) -> float:
        """When, by the monotonic clock, it is to be looked at again though no descriptor tells of anything."""
        ...

    @property
    def trouble(self) -> str:
        """Why there is no connection, as far as that is known, for people."""
        ...

    @property
    def is_refused(self) -> bool:
        """Whether the service does not let this client in: nothing will ever be received here."""
        ...


class Connector(Protocol):
    """What opens the transports of a service. What is not said otherwise is that of a service elsewhere, without lanes."""

    @property
    def url(self) -> str:
        """Where the service is, for people."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether `revive` starts a service."""
        return False

    @property
    def reads_only(self) -> bool:
        """Whether the service lets this client change nothing."""
        return False

    @property
    def is_known(self) -> bool:
        """Whether it is known where the service is."""
        return True

    @property
    def layout(self) -> str:
        """The id of the service's data, as far as it is known before the service is asked; else empty."""
        return ""

    def looks(self) -> Iterator[float]:
        """Look for the connection file if it is still to come; gives the seconds until the next look. Raises as `Client`."""
        yield from ()

    def open_broker(self, wait_seconds: float = 0.0) -> BrokerTransport:
        """A transport to the broker, which waits for so long at most. Raises ConnectionError."""
        ...

    def lane_address(self, worker: RosterWorker) -> str | None:
        """Where this worker may have a lane, if anywhere: whether it is that worker is still to be asked."""
        return None

    def open_lane(self, address: str, wait_seconds: float) -> Transport | None:
        """A lane for a thread that waits for so long at most, if a process listens there."""
        return None

    def open_awaiting_lane(self, address: str, loop: asyncio.AbstractEventLoop) -> Transport | None:
        """A lane for a loop, if a process listens there."""
        return None

    def revive(self) -> None:
        """Start the service if it is this user's own and does not run; wait for the connection file if it is still to come."""
        return

    def finds_service(self) -> bool:
        """Whether this user's own service runs; its URL is where it was found from now on."""
        return False

    def close(self) -> None:
        """Open nothing more."""
        ...

    def forget_closed(self) -> None:
        """Some transports were closed."""
        return

    def inherit(self) -> None:
        """In a forked child: leave everything of the parent alone, and begin anew."""
        ...
