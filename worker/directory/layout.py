"""How the data of a directory is spread among its workers: written once, when the directory is made."""

from __future__ import annotations

import secrets

import msgspec

from holdall import processors
from holdall.disk import FORMAT, crc32
from holdall.errors import InvalidError
from holdall.worker.store.engines import default_engine

WORKERS_MAX = 64
"""More would leave each less than 16 slots."""
DEFAULT_WORKERS_MIN, DEFAULT_WORKERS_MAX = 2, 4


class Layout(msgspec.Struct, frozen=True):
    """How the data is spread; it never changes. `crc` covers the other fields, in order.

    `history_id` is for what a restored copy will share with its original; `secret` for what only this service can have said.
    """

    format: int
    id: str
    history_id: str
    secret: str
    engine: str
    workers: int
    crc: int

    @classmethod
    def new(cls, workers: int) -> Layout:
        """One for so many workers, in the `default_engine`. Raises InvalidError if that cannot be."""
        if not 1 <= workers <= WORKERS_MAX:
            raise InvalidError(f"a service has 1 to {WORKERS_MAX} workers, not {workers}")
        fields = FORMAT, secrets.token_hex(16), secrets.token_hex(16), secrets.token_hex(32), default_engine(), workers
        return cls(*fields, _layout_crc(*fields))

    @property
    def is_sound(self) -> bool:
        return self.crc == _layout_crc(*msgspec.structs.astuple(self)[:-1]) and 1 <= self.workers <= WORKERS_MAX


def _layout_crc(*fields: object) -> int:
    return crc32(" ".join(map(str, fields)).encode())


class LayoutFormat(msgspec.Struct):
    """What every format has."""

    format: int


def default_workers() -> int:
    """How many workers a new data directory is for: half the CPUs, DEFAULT_WORKERS_MIN to DEFAULT_WORKERS_MAX.

    A client at work needs as much of a CPU as the worker it talks to. Two at least: while one starts again, the other answers;
    and the number stays for good, also when the directory moves to a larger machine.
    """
    return min(max(processors.usable() // 2, DEFAULT_WORKERS_MIN), DEFAULT_WORKERS_MAX)
