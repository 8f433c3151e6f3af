"""What a worker needs of its folder of blob files, and one in memory that can crash.

A blob is written in pieces to a scratch file, and sealed: checked, made to survive a power cut, and given its name, all at
once. Sealing and removing take long and are only begun here; `sealed` tells later which ones have ended. The worker is
the only user, from one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol
from zlib import crc32

from holdall.blob import REUSED_BYTES_MAX, Reference
from holdall.bodies import FileToFill
from holdall.protocol import Buffer


class Sealed(NamedTuple):
    """How the sealing of a blob ended: `torn` if it is not what was meant, an error's text if it could not be done."""

    id: bytes
    torn: bool = False
    error: str = ""


class Files(Protocol):
    """Files named by blob ids."""

    def write(self, blob_id: bytes, offset: int, data: Buffer) -> None:
        """Write a piece of a scratch file, made with the first one. Raises StorageError."""

    def make(self, blob_id: bytes) -> FileToFill:
        """A scratch file, made if need be, for its client to write, who vouches for the checksum. Raises StorageError."""
        ...

    def path(self, blob_id: bytes) -> str | None:
        """The path of a blob, for its client to read from; None if there is no such file."""

    def seal(self, reference: Reference) -> None:
        """Begin to make a scratch file this blob."""

    def sealed(self) -> list[Sealed]:
        """What has ended since the last call."""
        ...

    def read(self, blob_id: bytes, offset: int, size: int) -> bytes | None:
        """A part of a blob, None if there is no such file. Raises StorageError, naming the file."""

    def remove(self, blob_ids: Iterable[bytes]) -> None:
        """Begin to remove these blobs, scratch files too."""

    def names(self) -> list[bytes]:
        """The ids of all files, scratch files too."""
        ...

    def free_bytes(self) -> int:
        """The room on the disk."""
        ...

    def close(self) -> None:
        """End what was begun. Nothing may be called afterwards."""


class Content(bytearray):
    """What is in a file in memory."""

    is_written = False
    """Whether it was written to since it is this blob's."""


class MemoryFile:
    """A file in memory that is open. It stays when its name is removed, and is written over when it is another blob's."""

    def __init__(self, data: Content, named: Callable[[], Content | None]) -> None:
        self._data = data
        self._named = named
        self._at = 0

    def write(self, data: Buffer) -> int:
        """Write this to it."""
        self._data[self._at : self._at + len(data)] = data
        self._data.is_written = True
        self._at += len(data)
        return len(data)

    def read(self, into: memoryview) -> int:
        """Read from it."""
        data = self._data[self._at : self._at + len(into)]
        into[: len(data)] = data
        self._at += len(data)
        return len(data)

    def sync(self) -> None:
        """A power cut loses any of it that is not sealed, here."""

    def keeps_name(self) -> bool:
        """Whether its name is still there."""
        return self._named() is self._data


class MemoryFiles:
    """Files in memory, for tests and the simulator."""

    def __init__(self) -> None:
        self.scratch: dict[bytes, Content] = {}
        self.blobs: dict[bytes, Content] = {}
        self._given: set[bytes] = set()
        self.spares: list[Content] = []
        """Of blobs that were removed: the next scratch files."""
        self.begun: list[Reference] = []
        """What is to be sealed by the next call of `sealed`."""

    def write(self, blob_id: bytes, offset: int, data: Buffer) -> None:
        scratch = self.scratch.setdefault(blob_id, Content())
        self._given.discard(blob_id)  # now it is checked
        scratch.is_written = True
        scratch.extend(bytes(max(0, offset - len(scratch))))
        scratch[offset : offset + len(data)] = data

    def make(self, blob_id: bytes) -> FileToFill:
        if blob_id not in self.scratch:
            self.scratch[blob_id] = self.spares.pop() if self.spares else Content()
            self.scratch[blob_id].is_written = False
            self._given.add(blob_id)
        return FileToFill(blob_id.hex().encode(), True)

    def path(self, blob_id: bytes) -> str | None:
        return blob_id.hex() if blob_id in self.blobs else None

    def open(self, path: str, writes: bool) -> MemoryFile:
        """What a client does with a path."""
        files = self.scratch if writes else self.blobs
        blob_id = bytes.fromhex(path)
        if blob_id not in files:
            raise FileNotFoundError(path)
        return MemoryFile(files[blob_id], lambda: files.get(blob_id))

    def seal(self, reference: Reference) -> None:
        self.begun.append(reference)

    def sealed(self) -> list[Sealed]:
        begun, self.begun = self.begun, []
        ended: list[Sealed] = []
        for reference in begun:
            data = self.scratch.pop(reference.id, Content())
            del data[reference.size :]  # it may have been a larger blob's
            torn = len(data) < reference.size or not data.is_written
            if reference.id not in self._given:  # if it is, its client vouches for the checksum
                torn = torn or crc32(data) != reference.crc
            self._given.discard(reference.id)
            if not torn:
                self.blobs[reference.id] = data
            ended.append(Sealed(reference.id, torn))
        return ended

    def read(self, blob_id: bytes, offset: int, size: int) -> bytes | None:
        data = self.blobs.get(blob_id)
        return None if data is None else bytes(data[offset : offset + size])

    def remove(self, blob_ids: Iterable[bytes]) -> None:
        for blob_id in blob_ids:
            data = self.blobs.pop(blob_id, None)
            if data is not None and len(data) <= REUSED_BYTES_MAX:
                self.spares.append(data)
            self.scratch.pop(blob_id, None)
            self._given.discard(blob_id)

    def names(self) -> list[bytes]:
        return [*self.blobs, *self.scratch]

    def free_bytes(self) -> int:
        return 1 << 40

    def close(self) -> None:
        self.begun.clear()
