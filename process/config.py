"""What each process of a service is started with. The parent passes it to the child as JSON."""

from __future__ import annotations

from typing import ClassVar, Literal, Union

import msgspec

Sync = Literal["always", "interval", "off"]
"""When a write survives a power cut: before it is answered, within a second, or whenever the system writes it."""

STUCK_SECONDS = 12.0
"""A worker says HELLO twice a second, between two ticks; the longest tick, of the largest values, takes some seconds. A call
that waits for a stuck one waits longer by default, and is answered by the one that takes its place.
"""


class ServiceSettings(msgspec.Struct, frozen=True):
    """A service: its data directory, the URLs it listens at besides its own ipc one, how many workers (None: as the
    directory was made), after how many idle seconds it ends (None: never), how long it waits for another service to leave
    the data directory, after how many seconds of silence a worker is replaced, whether a directory that is a copy of
    another one, or was moved, is the one to be used from now on, where to write a connection file, and whether its keys are
    to be gone at the end.
    """

    data: str
    listen: list[str] = []
    workers: Union[int, None] = None
    sync: Sync = "always"
    idle_seconds: Union[float, None] = None
    lock_seconds: float = 0.0
    stuck_seconds: float = STUCK_SECONDS
    adopt: bool = False
    write_connection: Union[str, None] = None
    temporary_keys: bool = False


class BrokerSettings(msgspec.Struct, frozen=True):
    """A broker: the URLs it binds for clients, the one for workers, after how many seconds without any request it ends
    (None: never), after how many seconds of silence it says that a worker is stuck, and the folder with the keys of its ports.
    """

    listen: list[str]
    workers_listen: str
    idle_seconds: Union[float, None] = None
    stuck_seconds: float = STUCK_SECONDS
    keys: str = ""

    process: ClassVar[str] = "broker"
    """Its name in log lines."""


class WorkerSettings(msgspec.Struct, frozen=True):
    """A worker: data directory, index in it, the broker's URL, the one it binds for lanes, `adopt` as of the service."""

    data: str
    index: int
    broker: str
    address: str
    sync: Sync = "always"
    adopt: bool = False

    @property
    def process(self) -> str:
        return f"worker {self.index}"
