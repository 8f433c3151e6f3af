"""What keeps one client of a web server from harming the others."""

from __future__ import annotations

import time

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class Allowance:
    """So many a second, and so many at once after a pause."""

    def __init__(self, a_second: float, at_once: float) -> None:
        self._a_second, self._at_once = a_second, at_once
        self._left, self._at = at_once, time.monotonic()

    def take(self) -> bool:
        """Take one. Returns whether there was one left."""
        now = time.monotonic()
        self._left, self._at = min(self._at_once, self._left + (now - self._at) * self._a_second) - 1, now
        return self._left >= 0


class Unpinged(WebSocketsSansIOProtocol):
    """WebSockets for pages, which cannot send a ping: who does means to have the answers pile up here."""

    def handle_ping(self) -> None:
        self.transport.abort()
