"""What a peer is: something that users would pick instead, or a physical limit.

It starts a private instance and gives a connector, which is pickled into the processes of the clients and makes them there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from shutil import which
from typing import Any, NamedTuple, Protocol

from holdall.bench.workload import Operation, Workload


class Missing(Exception):
    """This peer cannot take part here; the message says what to install."""


@dataclass(frozen=True)
class Client:
    """How one thread reads and writes at a peer. A call has returned when the peer has acknowledged it."""

    get: Callable[[str], Any]
    put: Callable[[str, Any], Any]
    get_many: Callable[[list[str]], Any] | None = None
    """In one round trip."""
    put_many: Callable[[dict[str, Any]], Any] | None = None


AwaitedGet = Callable[[str], Awaitable[Any]]


class Connector(Protocol):
    """Can be pickled."""

    def client(self) -> AbstractContextManager[Client]:
        """A client for the calling thread."""
        ...


class AwaitingConnector(Connector, Protocol):
    """One whose peer can be awaited."""

    def awaited_get(self) -> AbstractAsyncContextManager[AwaitedGet]:
        """A get for the running event loop."""
        ...


class Instance(NamedTuple):
    """A peer that runs."""

    connector: Connector
    pids: tuple[int, ...] = ()
    """Its processes, and those that started others of them."""


@dataclass(frozen=True)
class Peer:
    """How to start an instance, and what it can do."""

    name: str
    start: Callable[[], AbstractContextManager[Instance]]
    offers: tuple[Operation, ...] = ("mixed", "get_many", "put_many")
    clients_max: int | None = None
    value_bytes_max: int | None = None

    def refusal(self, workload: Workload) -> str | None:
        """Why it cannot take part in this workload, if it cannot."""
        if workload.operation not in self.offers:
            return f"it has no {workload.operation}"
        if self.clients_max is not None and workload.clients > self.clients_max:
            return f"it serves at most {self.clients_max} client at once"
        if self.value_bytes_max is not None and workload.value_bytes > self.value_bytes_max:
            return f"it takes values of at most {self.value_bytes_max:,} bytes"
        return None


def require_package(module: str, requirement: str) -> None:
    """Raise Missing if this module is not installed."""
    if find_spec(module) is None:
        raise Missing(f"pip install '{requirement}'")


def require_program(program: str, package: str) -> str:
    """Where this program is. Raises Missing."""
    path = which(program)
    if path is None:
        raise Missing(f"apt-get install {package}")
    return path
