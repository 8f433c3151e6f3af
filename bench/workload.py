"""What clients do, and the workloads that have a name.

Operations are "mixed" (single gets and puts), "get_many" and "put_many" (`batch` entries in a call), and "gather" (`tasks`
gets that one event loop awaits at once).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Operation = Literal["mixed", "get_many", "put_many", "gather"]
Distribution = Literal["uniform", "zipf"]

KIB, MIB = 1024, 1024 * 1024
LARGEST = 100 * MIB - KIB
"""Bytes of a value: an entry has 100 MiB at most, its key and what pickle adds included."""


@dataclass(frozen=True)
class Workload:
    """What each of `processes` × `threads` clients does."""

    name: str
    description: str
    operation: Operation = "mixed"
    read_share: float = 1.0
    """Of a mixed one: which part of the calls are gets."""
    batch: int = 1
    """Entries in one call of get_many and put_many."""
    tasks: int = 1
    """Gets awaited at once by a gather."""
    value_bytes: int = 100
    is_array: bool = False
    """Whether a value is a numpy array, or else bytes."""
    entries: int = 1_000
    key_prefix: str = "key-"
    distribution: Distribution = "uniform"
    processes: int = 1
    threads: int = 1
    warm_up_calls: int = 200
    """Of each client, at the start of each turn; not counted."""

    def key(self, number: int) -> str:
        """The key of an entry."""
        return f"{self.key_prefix}{number}"

    @property
    def operations_per_call(self) -> int:
        """How many entries one call reads or writes."""
        return self.batch * self.tasks

    @property
    def clients(self) -> int:
        """How many call at once."""
        return self.processes * self.threads


_ALL = (
    Workload("get", "One client gets 100-byte values."),
    Workload("put", "One client puts 100-byte values.", read_share=0.0),
    Workload("get-10", "One client gets 10-byte values.", value_bytes=10),
    Workload("get-10k", "One client gets 10 KiB values.", value_bytes=10 * KIB),
    Workload("put-10k", "One client puts 10 KiB values.", read_share=0.0, value_bytes=10 * KIB),
    Workload("get-1m", "One client gets 1 MiB values.", value_bytes=MIB, entries=64, warm_up_calls=5),
    Workload("put-1m", "One client puts 1 MiB values.", read_share=0.0, value_bytes=MIB, entries=64, warm_up_calls=5),
    Workload("get-10m", "One client gets 10 MiB values.", value_bytes=10 * MIB, entries=8, warm_up_calls=2),
    Workload("put-10m", "One client puts 10 MiB values.", read_share=0.0, value_bytes=10 * MIB, entries=8, warm_up_calls=2),
    Workload("get-100m", "One client gets 100 MiB values.", value_bytes=LARGEST, entries=2, warm_up_calls=1),
    Workload("put-100m", "One client puts 100 MiB values.", read_share=0.0, value_bytes=LARGEST, entries=2, warm_up_calls=1),
    Workload(
        "arrays",
        "Half gets, half puts of 5 MiB arrays.",
        "mixed",
        0.5,
        value_bytes=5 * MIB,
        is_array=True,
        entries=8,
    ),
    Workload("mixed", "Four processes, 90 % gets, 10 % puts.", read_share=0.9, processes=4),
    Workload("mixed-zipf", "The same; some of 10,000 are hot.", "mixed", 0.9, entries=10_000, distribution="zipf", processes=4),
    Workload("half", "Four processes, half gets, half puts.", read_share=0.5, processes=4),
    Workload("threads", "One process, four threads, 90 % gets, 10 % puts.", read_share=0.9, threads=4),
    Workload("get-many", "get_many of 1,000 keys.", "get_many", batch=1_000, warm_up_calls=5),
    Workload("put-many", "put_many of 100 entries.", "put_many", batch=100, warm_up_calls=20),
    Workload("gather-100", "One event loop awaits 100 gets at once.", "gather", tasks=100, warm_up_calls=20),
    Workload("gather-1000", "One event loop awaits 1,000 gets at once.", "gather", tasks=1_000, warm_up_calls=5),
)
NAMED = {workload.name: workload for workload in _ALL}
"""What `holdall bench compare` takes."""
