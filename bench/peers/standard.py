"""`multiprocessing.Manager().dict()`, which comes with Python."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import current_process, get_context
from multiprocessing.managers import SyncManager
from typing import Any, cast

from holdall.bench.peers.peer import Client, Instance, Peer


class _Manager(SyncManager):
    """One that tells the id of its process."""


_Manager.register("process_id", os.getpid)


@dataclass(frozen=True)
class ManagerConnector:
    """A pickled proxy, as multiprocessing passes it to a child; `update` is the batch of puts, and there is none of gets."""

    shared: Any
    authkey: bytes

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """The proxy's own methods: it has a connection for each thread."""
        current_process().authkey = self.authkey
        yield Client(self.shared.get, self.shared.__setitem__, put_many=self.shared.update)


@contextmanager
def _start() -> Generator[Instance, None, None]:
    with _Manager(ctx=get_context("spawn")) as manager:
        process_id: int = cast(Any, manager).process_id()._getvalue()
        yield Instance(ManagerConnector(manager.dict(), bytes(current_process().authkey)), (process_id,))


def manager_dict() -> Peer:
    """One process with a thread for each client, and nothing on disk: faster than it could be with our promises."""
    return Peer("Manager.dict", _start, offers=("mixed", "put_many"))
