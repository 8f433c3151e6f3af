"""diskcache: SQLite in the caller's own process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from holdall.bench.peers import server
from holdall.bench.peers.peer import Client, Instance, Peer, require_package


@dataclass(frozen=True)
class DiskcacheConnector:
    """A Cache of its own for each client, on one directory; puts in a transaction are the batch."""

    directory: str

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """`get` and `set`, bare: it stores bytes as they are."""
        cache: Any
        with import_module("diskcache").Cache(self.directory) as cache:

            def put_many(entries: dict[str, Any]) -> None:
                with cache.transact():
                    for key, value in entries.items():
                        cache.set(key, value)

            yield Client(cache.get, cache.set, put_many=put_many)


@contextmanager
def _start() -> Generator[Instance, None, None]:
    require_package("diskcache", "diskcache")
    with server.folder() as place:
        yield Instance(DiskcacheConnector(str(place)))


def diskcache() -> Peer:
    """Its defaults: a write-ahead log that is fsynced at checkpoints. It serves no other machine."""
    return Peer("diskcache", _start, offers=("mixed", "put_many"))
