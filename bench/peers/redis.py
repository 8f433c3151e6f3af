"""Redis through redis-py with hiredis, on a Unix socket, or at a port by TLS."""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from holdall.bench.peers import server
from holdall.bench.peers.peer import AwaitedGet, Client, Instance, Peer, require_package, require_program

CONNECTIONS_MAX = 10_000
"""As many as a server takes; redis-py's own limit, 100 since its version 8, is an error for the next call and no queue."""


@dataclass(frozen=True)
class RedisConnector:
    """Values are pickled, as ours are; `mget`, and a pipeline without a transaction, are the batches."""

    options: tuple[tuple[str, Any], ...]
    """Of redis-py: where it is."""

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """A connection of its own."""
        with import_module("redis").Redis(**dict(self.options)) as client:
            fetch, store = client.get, client.set

            def get(key: str) -> Any:
                return pickle.loads(fetch(key))

            def put(key: str, value: Any) -> None:
                store(key, pickle.dumps(value, 5))

            def get_many(keys: list[str]) -> list[Any]:
                return [pickle.loads(value) for value in client.mget(keys)]

            def put_many(entries: dict[str, Any]) -> None:
                with client.pipeline(transaction=False) as pipeline:
                    for key, value in entries.items():
                        pipeline.set(key, pickle.dumps(value, 5))
                    pipeline.execute()

            yield Client(get, put, get_many, put_many)

    @asynccontextmanager
    async def awaited_get(self) -> AsyncGenerator[AwaitedGet, None]:
        """redis.asyncio with a connection for each call that is under way: a bounded pool is slower for 100 at once."""
        async with import_module("redis.asyncio").Redis(**dict(self.options), max_connections=CONNECTIONS_MAX) as client:

            async def get(key: str) -> Any:
                return pickle.loads(await client.get(key))

            yield get


def redis(appendfsync: str, *, by_tls: bool = False) -> Peer:
    """The append-only file is on. "everysec" promises what our "interval" does, "always" what our "always" does."""

    @contextmanager
    def start() -> Generator[Instance, None, None]:
        program = require_program("redis-server", "redis-server")
        require_package("redis", "redis[hiredis]")
        require_package("hiredis", "redis[hiredis]")
        with server.folder() as place:
            socket = place / "socket"
            options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(place), "--save", ""]
            durable = ["--appendonly", "yes", "--appendfsync", appendfsync]
            where: tuple[tuple[str, Any], ...] = (("unix_socket_path", str(socket)),)
            if by_tls:
                certificate, key, port = place / "certificate", place / "key", server.free_port()
                _certify(certificate, key)
                options += ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
                options += ["--tls-auth-clients", "no"]
                secure = {"ssl": True, "ssl_ca_certs": str(certificate), "ssl_check_hostname": False}
                where = (("host", "127.0.0.1"), ("port", port), *secure.items())
            with server.server([program, *options, *durable], lambda: server.accepts(socket)) as pid:
                yield Instance(RedisConnector(where), (pid,))

    name = f"Redis {appendfsync}" + (" by TLS" if by_tls else "")
    return Peer(name, start, offers=("mixed", "get_many", "put_many", "gather"))


def _certify(certificate: Path, key: Path) -> None:
    """Make a certificate of one's own, for this machine."""
    wanted = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    argv = [require_program("openssl", "openssl"), *wanted, "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(argv, check=True, capture_output=True)
