"""etcd through aetcd, which speaks gRPC."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from holdall.bench.peers import server
from holdall.bench.peers.peer import AwaitedGet, Client, Instance, Peer, require_package, require_program

VALUE_BYTES_MAX = 1_000_000
"""It refuses requests above 1.5 MiB by default."""


@dataclass(frozen=True)
class EtcdConnector:
    """Values are pickled. The library is an awaitable one: a blocking client runs an event loop of its own for each call."""

    port: int

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """A connection, and a loop, of its own."""
        loop = asyncio.new_event_loop()
        run = loop.run_until_complete
        client = run(self._connected())

        def get(key: str) -> Any:
            return pickle.loads(run(client.get(key.encode())).value)

        def put(key: str, value: Any) -> None:
            run(client.put(key.encode(), pickle.dumps(value, 5)))

        try:
            yield Client(get, put)
        finally:
            run(client.close())
            loop.close()

    @asynccontextmanager
    async def awaited_get(self) -> AsyncGenerator[AwaitedGet, None]:
        """One connection, on which requests are multiplexed."""
        client = await self._connected()

        async def get(key: str) -> Any:
            return pickle.loads((await client.get(key.encode())).value)

        try:
            yield get
        finally:
            await client.close()

    async def _connected(self) -> Any:
        client: Any = import_module("aetcd").Client(host="127.0.0.1", port=self.port)
        await client.connect()
        return client


@contextmanager
def _start() -> Generator[Instance, None, None]:
    program = require_program("etcd", "etcd-server")
    require_package("aetcd", "aetcd")
    port, peer_port = server.free_port(), server.free_port()
    url = f"http://127.0.0.1:{port}"
    with server.folder() as place:
        argv = [program, "--data-dir", str(place), "--listen-client-urls", url, "--advertise-client-urls", url]
        alone = ["--listen-peer-urls", f"http://127.0.0.1:{peer_port}", "--log-level", "error"]
        with server.server([*argv, *alone], lambda: server.is_healthy(f"{url}/health")) as pid:
            yield Instance(EtcdConnector(port), (pid,))


def etcd() -> Peer:
    """A cluster of one member, on loopback. Each write is fsynced before it is answered, as with our "always"."""
    return Peer("etcd", _start, offers=("mixed", "gather"), value_bytes_max=VALUE_BYTES_MAX)
