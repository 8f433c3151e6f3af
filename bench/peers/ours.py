"""This project."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import holdall
from holdall.bench.peers import server
from holdall.bench.peers.peer import AwaitedGet, Client, Instance, Peer
from holdall.process.config import Sync
from holdall.worker.directory.opening import DataDirectory

NAME = "bench"


@dataclass(frozen=True)
class DictConnector:
    """A handle of its own for each client, already looked up."""

    url: str | None
    relayed: bool = False
    connection: str | None = None

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """The four calls, bare."""
        warnings.simplefilter("ignore", holdall.LargeValueWarning)
        with self._client() as client:
            d = _handle(client)
            yield Client(d.get, d.put, d.get_many, lambda entries: d.put_many(entries.items()))

    @asynccontextmanager
    async def awaited_get(self) -> AsyncGenerator[AwaitedGet, None]:
        """`get.aio`, bare."""
        async with self._client() as client:
            yield _handle(client).get.aio

    def _client(self) -> holdall.Client:
        return holdall.Client(self.url, lanes=not self.relayed, connection=self.connection)


def _handle(client: holdall.Client) -> holdall.Dict[str, bytes]:
    handle: holdall.Dict[str, bytes] = holdall.Dict.from_name(NAME, create_if_missing=True, client=client)
    return handle.hydrate()


def service_pid(data: Path) -> int:
    """The process that started the others of the service on this data directory."""
    holder = DataDirectory(data).holder()
    assert holder is not None
    return holder.pid


def holdall_dict(sync: Sync, *, relayed: bool = False, workers: int | None = None, by_port: bool = False) -> Peer:
    """A private service with everything on: each write once, expiry, checks. `workers`: the CPUs by default, at most 4.
    `by_port`: clients come as from other machines, by a key.
    """

    @contextmanager
    def start() -> Generator[Instance, None, None]:
        with server.folder() as data:
            port: dict[str, Any] = {"listen": "tcp://127.0.0.1:0", "temporary_keys": True} if by_port else {}
            service = holdall.LocalService(data, workers=workers, sync=sync, **port)
            service.start()
            try:
                url, connection = (None, service.connection_file) if by_port else (service.url, None)
                yield Instance(DictConnector(url, relayed, connection), (service_pid(data),))
            finally:
                service.stop()

    name = f"holdall {sync}" + (" relayed" if relayed else "") + (f" {workers} workers" if workers else "")
    name += " by a port" if by_port else ""
    return Peer(name, start, offers=("mixed", "get_many", "put_many", "gather"))
