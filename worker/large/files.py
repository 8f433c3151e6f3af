"""What a worker needs of its folder of blob files: any folder that keeps this promise can be one.

Each blob is a file, whose name is the blob's id. Sealing and removing files take long and are only begun here; `sealed` tells
later what has come of it. The worker is the only user, from one thread; clients have some of the files open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from holdall.protocol import Buffer


class OpenFile(Protocol):
    """A file that is open, at its beginning, until nothing refers to it any more."""

    @property
    def size(self) -> int | None: ...

    def write(self, data: Buffer) -> int:
        """Write some of this; how many bytes. Raises OSError."""
        ...

    def read(self, into: memoryview) -> int:
        """Read some bytes; how many, 0 at the end. Raises OSError."""
        ...

    def sync(self) -> None:
        """Make what was written survive a power cut. Raises OSError."""


class Sealed(NamedTuple):
    """How the sealing of a blob ended: `torn` if it has another size than was meant, an error's text if it failed."""

    id: bytes
    torn: bool = False
    error: str = ""


class Files(Protocol):
    """Files by the ids of their blobs."""

    syncs: bool
    """Whether what is sealed is to survive a power cut."""

    def make(self, name: bytes) -> OpenFile:
        """A file to be written, made if it is missing. Raises StorageError, naming the file."""
        ...

    def open(self, name: bytes) -> OpenFile | None:
        """A file to be read, None if there is none. Raises StorageError, naming the file."""
        ...

    def write(self, name: bytes, offset: int, data: Buffer) -> None:
        """Write a part of a file, made with the first one. Raises StorageError."""

    def seal(self, name: bytes, size: int) -> None:
        """Begin to make a file of this size survive a power cut, its name too, and all that was written to it before."""

    def sealed(self) -> list[Sealed]:
        """What has ended since the last call."""
        ...

    def read(self, name: bytes, offset: int, size: int) -> bytes | None:
        """A part of a file, None if there is none. Raises StorageError, naming the file."""

    def remove(self, names: Iterable[bytes]) -> None:
        """Begin to remove these. A client may still have them open."""

    def names(self) -> list[bytes]:
        """Those of all files."""
        ...

    def path(self, name: bytes) -> str:
        """Where a file is, for people."""
        ...

    def free_bytes(self) -> int:
        """The room on the disk."""
        ...

    def close(self) -> None:
        """End what was begun. Nothing may be called afterwards."""
