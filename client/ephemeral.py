"""An ephemeral Dict: anonymous, gone when its block ends, and by itself soon after its process dies.

Every worker holds a lease of it, which its owner renews from a thread, in both colours: an event loop may be busy for
longer than a lease lasts.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from holdall import protocol
from holdall.bodies import CatalogEntry
from holdall.client.connection.query import Operation
from holdall.client.operations import catalog
from holdall.errors import Error
from holdall.settings import Serializer

from .handle import Handle

if TYPE_CHECKING:
    from .client import Client

H = TypeVar("H", bound=Handle)

LEASE_SECONDS = 15.0
"""How long a worker keeps an ephemeral Dict whose owner is not heard of."""
RENEW_SECONDS = 4.0
"""How often the owner is heard of: three times within a lease, with time to spare."""


class Ephemeral(Generic[H]):
    """The block in which the Dict exists. Enter it with `with` or `async with`."""

    def __init__(self, client: Client, environment: str, kind: type[H], serializer: Serializer) -> None:
        self._client = client
        self._id = protocol.dict_id_of(os.urandom(16), ephemeral=True)
        self._environment = environment
        self._dict = kind.of_entry(CatalogEntry(environment, "", self._id, 0.0, ""), client, serializer)
        self._ended = threading.Event()
        self._pid = 0  # of the process that entered the block: a forked child that leaves it ends nothing
        self._renewing: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<a block of {self._dict!r}>"

    def __enter__(self) -> H:
        self._client.run(self._begin())
        self._start_renewing()
        return self._dict

    def __exit__(self, *error: object) -> None:
        if self._pid != os.getpid():
            return
        self._stop_renewing()
        self._client.run(catalog.drop(self._client, self._id, self._dict.label))

    async def __aenter__(self) -> H:
        await self._client.run_awaiting(self._begin())
        self._start_renewing()
        return self._dict

    async def __aexit__(self, *error: object) -> None:
        if self._pid != os.getpid():
            return
        import asyncio  # not at the top: programs that block never load it

        await asyncio.get_running_loop().run_in_executor(None, self._stop_renewing)
        await self._client.run_awaiting(catalog.drop(self._client, self._id, self._dict.label))

    def _start_renewing(self) -> None:
        self._renewing = threading.Thread(target=self._renew, name=f"lease of {self._dict.label}", daemon=True)
        self._renewing.start()

    def _stop_renewing(self) -> None:
        self._ended.set()
        if self._renewing is not None:
            self._renewing.join()

    def _begin(self) -> Operation[None]:
        if self._pid:
            raise RuntimeError("an ephemeral Dict is entered once: make another one with Dict.ephemeral()")
        self._pid = os.getpid()
        return catalog.begin_lease(self._client, self._environment, self._id, self._dict.label, LEASE_SECONDS)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            try:
                self._client.run(catalog.renew(self._client, self._id, self._dict.label))
            except Error:  # the service is away: the next time may be in time, and calls of the block say what is wrong
                pass
