"""The key-value store of NATS JetStream, through nats-py."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from holdall.bench.peers import server
from holdall.bench.peers.peer import AwaitedGet, Client, Instance, Peer, require_package, require_program

VALUE_BYTES_MAX = 1_000_000
"""The server refuses messages above 1 MiB by default."""


@dataclass(frozen=True)
class NatsConnector:
    """Values are pickled. The library is an awaitable one: a blocking client runs an event loop of its own for each call."""

    url: str

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """A connection, and a loop, of its own."""
        loop = asyncio.new_event_loop()
        connection, bucket = loop.run_until_complete(self._bucket())

        def get(key: str) -> Any:
            return pickle.loads(loop.run_until_complete(bucket.get(key)).value)

        def put(key: str, value: Any) -> None:
            loop.run_until_complete(bucket.put(key, pickle.dumps(value, 5)))

        try:
            yield Client(get, put)
        finally:
            loop.run_until_complete(connection.close())
            loop.close()

    @asynccontextmanager
    async def awaited_get(self) -> AsyncGenerator[AwaitedGet, None]:
        """One connection, on which requests are pipelined."""
        connection, bucket = await self._bucket()

        async def get(key: str) -> Any:
            return pickle.loads((await bucket.get(key)).value)

        try:
            yield get
        finally:
            await connection.close()

    async def _bucket(self) -> tuple[Any, Any]:
        connection = await import_module("nats").connect(self.url)
        return connection, await connection.jetstream().create_key_value(bucket="bench")


@contextmanager
def _start() -> Generator[Instance, None, None]:
    program = require_program("nats-server", "nats-server")
    require_package("nats", "nats-py")
    with server.folder() as place:
        argv = [program, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", str(place), "-js", "-sd", str(place)]
        with server.server(argv, lambda: bool(_urls(place))) as pid:
            yield Instance(NatsConnector(_urls(place)[0]), (pid,))


def _urls(place: Path) -> list[str]:
    """Where the server says that it listens."""
    told = [path.read_text() for path in place.glob("*.ports")]
    return list(json.loads(told[0])["nats"]) if told and told[0] else []


def nats() -> Peer:
    """On disk, on loopback (it knows no Unix socket). It fsyncs every two minutes: that is less than our "interval"."""
    return Peer("NATS KV", _start, offers=("mixed", "gather"), value_bytes_max=VALUE_BYTES_MAX)
