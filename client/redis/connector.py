"""Opens the transports to a server or a cluster that speaks Redis' protocol."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from holdall.errors import ConnectionError, InvalidError

from .keyspace import Keyspace
from .target import target_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from holdall.bodies import RosterWorker
    from holdall.client.connection.lane import AwaitingLane, BlockingLane

    from .transport import RedisTransport


class RedisConnector:
    """For what this URL says."""

    is_local = False
    reads_only = False
    is_known = True
    layout = ""

    def __init__(self, url: str) -> None:
        target = target_of(url)
        try:
            from .node import Resolver
            from .translate import Translator
        except ImportError:
            raise InvalidError(f"{target.shown} takes hiredis: pip install 'holdall[redis]'") from None
        self._target = target
        self._tls = target.tls()
        self._resolver = Resolver()
        self._translator = Translator(Keyspace(target.namespace, target.parts))
        self._transports: weakref.WeakSet[RedisTransport] = weakref.WeakSet()
        self._is_closed = False

    @property
    def url(self) -> str:
        return self._target.shown

    def open_broker(self, wait_seconds: float = 0.0) -> RedisTransport:
        from .transport import RedisTransport

        if self._is_closed:
            raise ConnectionError(f"this client of {self.url} is closed: make another one")
        transport = RedisTransport(self._target, self._translator, self._tls, self._resolver, wait_seconds)
        self._transports.add(transport)
        return transport

    def lane_address(self, worker: RosterWorker) -> str | None:
        return None

    def open_lane(self, address: str, wait_seconds: float) -> BlockingLane | None:
        return None

    def open_awaiting_lane(self, address: str, loop: asyncio.AbstractEventLoop) -> AwaitingLane | None:
        return None

    def looks(self) -> Iterator[float]:
        yield from ()

    def revive(self) -> None:
        pass

    def finds_service(self) -> bool:
        return False

    def close(self) -> None:
        self._is_closed = True

    def forget_closed(self) -> None:
        pass

    def inherit(self) -> None:
        for transport in list(self._transports):
            transport.leave()
        self._transports = weakref.WeakSet()
