"""memcached through pymemcache, on a Unix socket."""

from __future__ import annotations

import getpass
import pickle
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from holdall.bench.peers import server
from holdall.bench.peers.peer import Client, Instance, Peer, require_package, require_program

MEMORY_MIB = "1024"
ITEM_MAX = "64m"
"""The default, 1 MiB, would leave out large values."""


@dataclass(frozen=True)
class MemcachedConnector:
    """Values are pickled, and puts are acknowledged (pymemcache does not wait for that by default)."""

    socket: str

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """A connection of its own."""
        client: Any = import_module("pymemcache").Client(self.socket, default_noreply=False)

        def get(key: str) -> Any:
            return pickle.loads(client.get(key))

        def put(key: str, value: Any) -> None:
            client.set(key, pickle.dumps(value, 5))

        def get_many(keys: list[str]) -> dict[str, Any]:
            return {key: pickle.loads(value) for key, value in client.get_many(keys).items()}

        def put_many(entries: dict[str, Any]) -> None:
            client.set_many({key: pickle.dumps(value, 5) for key, value in entries.items()})

        yield Client(get, put, get_many, put_many)
        client.close()


@contextmanager
def _start() -> Generator[Instance, None, None]:
    program = require_program("memcached", "memcached")
    require_package("pymemcache", "pymemcache")
    with server.folder() as place:
        socket = place / "socket"
        argv = [program, "-s", str(socket), "-m", MEMORY_MIB, "-I", ITEM_MAX, "-u", getpass.getuser()]
        with server.server(argv, lambda: server.accepts(socket)) as pid:
            yield Instance(MemcachedConnector(str(socket)), (pid,))


def memcached() -> Peer:
    """A cache in memory: nothing on disk, and it may forget. Faster than it could be with our promises."""
    return Peer("memcached", _start)
