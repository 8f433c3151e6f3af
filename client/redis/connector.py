"""Opens the transports to a server or a cluster that speaks Redis' protocol."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

from holdall.client.connection.transport import Connector
from holdall.errors import ConnectionError, InvalidError

from .keyspace import Keyspace
from .target import target_of

if TYPE_CHECKING:
    from .transport import RedisTransport


class RedisConnector(Connector):
    """For what this URL says."""

    def __init__(self, url: str) -> None:
        target = target_of(url)
        try:
            from .translate import Translator
            from .transport import RedisTransport
        except ImportError:
            raise InvalidError(f"{target.shown} takes hiredis: pip install 'holdall[redis]'") from None
        translator = Translator(Keyspace(target.options.namespace, target.options.parts))
        self._url = target.shown
        self._open = partial(RedisTransport, target, translator, target.tls())
        self._transports: weakref.WeakSet[RedisTransport] = weakref.WeakSet()
        self._is_closed = False

    @property
    def url(self) -> str:
        return self._url

    def open_broker(self, wait_seconds: float = 0.0) -> RedisTransport:
        if self._is_closed:
            raise ConnectionError(f"this client of {self.url} is closed: make another one")
        transport = self._open(wait_seconds)
        self._transports.add(transport)
        return transport

    def close(self) -> None:
        self._is_closed = True

    def inherit(self) -> None:
        for transport in list(self._transports):
            transport.leave()
        self._transports = weakref.WeakSet()
