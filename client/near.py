"""Files of workers on this machine. A client that reaches them writes and reads the file of a blob itself: then no worker
carries the bytes, nor is kept from small requests by them. All others send and fetch chunks.

Whether it reaches them is found out by trying: a worker may run as another user, or in a container of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from holdall.durable import sync

if TYPE_CHECKING:
    from typing import TypeAlias

    from holdall.protocol import Buffer


class File(Protocol):
    """A file that is open, at its beginning."""

    def write(self, data: Buffer) -> int:
        """Write some of this; how many bytes. Raises OSError."""
        ...

    def read(self, into: memoryview) -> int:
        """Read some bytes; how many, 0 at the end. Raises OSError."""
        ...

    def end_at(self, size: int) -> None:
        """Cut off what is behind so many bytes: it may have been a larger blob's. Raises OSError."""

    def sync(self) -> None:
        """Make what was written survive a power cut. Raises OSError."""


Open: TypeAlias = "Callable[[str, bool], File]"
"""Opens the file at a path, to read, or (True) to write into what is there. Raises OSError."""


class _Descriptor:
    """Open as long as somebody holds it: when a call is given up, a thread may still be in the middle of a write."""

    def __init__(self, path: str, flags: int) -> None:
        self._number = -1
        self._number = os.open(path, flags | os.O_CLOEXEC)

    def write(self, data: Buffer) -> int:
        return os.write(self._number, data)

    def read(self, into: memoryview) -> int:
        return os.readv(self._number, [into])

    def end_at(self, size: int) -> None:
        if os.fstat(self._number).st_size > size:
            os.ftruncate(self._number, size)

    def sync(self) -> None:
        sync(self._number)

    def __del__(self) -> None:
        if self._number >= 0:
            os.close(self._number)


def _opened(path: str, writes: bool) -> File:
    return _Descriptor(path, os.O_WRONLY if writes else os.O_RDONLY)


class Near:
    """What one client knows of its workers' files. `is_possible` as long as it may reach them."""

    def __init__(self, *, is_possible: bool, opened: Open = _opened) -> None:
        self.is_possible = is_possible
        self._opened = opened
        self._is_proved = False

    def open(self, path: str, *, writes: bool) -> File | None:
        """The file that a worker named; None if this client does not reach it.

        Names are random: what is found there is what the worker means, or is in a copy of its folder; then the worker finds
        that nobody has written to its own file, and what is read has another checksum, or is the same. Once one was found,
        one that is missing has been removed since it was named, as when the worker was started anew, and says nothing about
        the next one.
        """
        try:
            file = self._opened(path, writes)
        except OSError as error:
            if path and isinstance(error, (FileNotFoundError, PermissionError)):
                self.is_possible = self._is_proved
            return None
        self._is_proved = True
        return file
