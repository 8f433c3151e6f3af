"""Where clients come in: at Unix sockets, which let in this user alone, and at ports, where a gate asks for keys.

The first byte of a client's route says its role to the worker: OWNER of whoever came by a Unix socket, and at the gate that of
the key.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdall import sockets
from holdall.framing import SCHEME
from holdall.roles import OWNER

from .router import Delivery, Router

if TYPE_CHECKING:
    from holdall.process.poller import SystemPoller

    from .gate import Gate

OWNERS = bytes([OWNER])


class Front:
    """One of the broker's two sides, at these URLs; the keys for its ports are in the folder `keys`."""

    def __init__(self, context: Any, urls: list[str], keys: str, poller: SystemPoller) -> None:
        own = [url for url in urls if url.startswith(SCHEME)]
        self._gate: Gate | None = None
        if ports := [url for url in urls if url not in own]:
            from holdall.process.keyring import Keyring  # most services have no ports

            from .gate import Gate

            self._gate = Gate(ports, Keyring(Path(keys)), poller, self)
        self._router = Router(sockets.front_router(context), own, poller, small=2, source=self)

    def take(self) -> Iterator[list[Any]]:
        for frames in self._router.take():
            frames[0] = OWNERS + frames[0]
            yield frames
        if self._gate is not None:
            yield from self._gate.take()

    def send(self, frames: list[Any]) -> Delivery:
        route = frames[0]
        if not route:  # a worker has said so
            return Delivery.GONE
        side = self._gate.router if route[0] != OWNER and self._gate is not None else self._router
        return side.send([route[1:], *frames[1:]])

    def admit(self) -> None:
        """Answer who may come in: that goes on while nobody is read."""
        if self._gate is not None:
            self._gate.admit()

    def check(self, now: float) -> list[bytes]:
        """Look at what changes seldom, twice a second. Returns the routes of clients whose keys were removed."""
        return [] if self._gate is None else self._gate.check(now)

    @property
    def is_reachable(self) -> bool:
        return self._router.is_reachable and (self._gate is None or self._gate.is_sound)

    def close(self) -> None:
        self._router.close()
        if self._gate is not None:
            self._gate.close()
