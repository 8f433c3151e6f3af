"""What a worker needs of its folder of blob files, and one in memory that can crash.

A blob that comes in pieces is written to a scratch file, and sealed: checked, made to survive a power cut, and given its name,
the blob's id, all at once. One that its client writes stands in a file with a name of its own, which is there before, and is
the next blob's when this one is not needed any more.

Making, sealing and removing files take long and are only begun here; `take` and `sealed` tell later what has come of it. The
worker is the only user, from one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import count
from typing import NamedTuple, Protocol

from holdall.blob import REUSED_BYTES_MAX, Reference
from holdall.disk import crc32
from holdall.protocol import Buffer
from holdall.worker.store.rows import FILE_NAME_BYTES


class Sealed(NamedTuple):
    """How the sealing of a blob ended: `torn` if it is not what was meant, an error's text if it could not be done."""

    id: bytes
    torn: bool = False
    error: str = ""


class Files(Protocol):
    """Files by their names: ids of blobs that came in pieces, or FILE_NAME_BYTES for those that clients write."""

    syncs: bool
    """Whether what is sealed, or written by a client, is to survive a power cut."""

    def take(self) -> bytes | None:
        """The name of a file that is nobody else's and is there after a power cut, for a client to write; None if none is
        ready: more are being made. Raises StorageError if that went wrong.
        """

    def is_written(self, name: bytes, size: int) -> bool:
        """Whether somebody has written to this file since it was taken, and it has so many bytes now."""
        ...

    def give_back(self, name: bytes, size: int) -> None:
        """Nobody needs the blob of so many bytes in this file any more: it is taken again, or removed."""

    def path(self, name: bytes) -> str:
        """Where it is, for a client to read or write."""
        ...

    def exists(self, name: bytes) -> bool:
        """Whether it is there."""
        ...

    def write(self, blob_id: bytes, offset: int, data: Buffer) -> None:
        """Write a piece of a scratch file, made with the first one. Raises StorageError."""

    def seal(self, reference: Reference) -> None:
        """Begin to make a scratch file this blob."""

    def sealed(self) -> list[Sealed]:
        """What has ended since the last call."""
        ...

    def read(self, name: bytes, offset: int, size: int) -> bytes | None:
        """A part of a file, None if there is none. Raises StorageError, naming the file."""

    def remove(self, names: Iterable[bytes]) -> None:
        """Begin to remove these, scratch files too. Somebody may still write to them."""

    def names(self) -> list[bytes]:
        """Those of all files, scratch files too, but not of those that are ready to be taken."""
        ...

    def free_bytes(self) -> int:
        """The room on the disk."""
        ...

    def close(self) -> None:
        """End what was begun. Nothing may be called afterwards."""


class Content(bytearray):
    """What is in a file in memory."""

    is_durable = False
    """Whether it survives a power cut."""
    is_written = False
    """Whether it was written to since its file was taken."""


class MemoryFile:
    """A file in memory that is open. It stays when its name is removed."""

    def __init__(self, data: Content) -> None:
        self._data = data
        self._at = 0

    def write(self, data: Buffer) -> int:
        """Write this to it."""
        self._data[self._at : self._at + len(data)] = data
        self._data.is_durable = False
        self._data.is_written = True
        self._at += len(data)
        return len(data)

    def read(self, into: memoryview) -> int:
        """Read from it."""
        data = self._data[self._at : self._at + len(into)]
        into[: len(data)] = data
        self._at += len(data)
        return len(data)

    def end_at(self, size: int) -> None:
        """Cut off what is behind that."""
        del self._data[size:]

    def sync(self) -> None:
        """Make it survive a power cut."""
        self._data.is_durable = True


class MemoryFiles:
    """Files in memory, for tests and the simulator."""

    syncs = True
    _numbers = count()

    def __init__(self) -> None:
        self.scratch: dict[bytes, Content] = {}
        self.named: dict[bytes, Content] = {}
        self.ready: deque[bytes] = deque()
        self.begun: list[Reference] = []
        """What is to be sealed by the next call of `sealed`."""

    def take(self) -> bytes | None:
        if self.ready:
            self.named[self.ready[0]].is_written = False
            return self.ready.popleft()
        name = next(self._numbers).to_bytes(FILE_NAME_BYTES, "big")
        self.named[name] = Content()
        return name

    def is_written(self, name: bytes, size: int) -> bool:
        return self.named[name].is_written and len(self.named[name]) == size

    def give_back(self, name: bytes, size: int) -> None:
        if len(name) == FILE_NAME_BYTES and size <= REUSED_BYTES_MAX:
            self.ready.append(name)
        else:
            self.remove([name])

    def path(self, name: bytes) -> str:
        return name.hex()

    def exists(self, name: bytes) -> bool:
        return name in self.named

    def open(self, path: str, _writes: bool) -> MemoryFile:
        """What a client does with a path."""
        data = self.named.get(bytes.fromhex(path))
        if data is None:
            raise FileNotFoundError(path)
        return MemoryFile(data)

    def write(self, blob_id: bytes, offset: int, data: Buffer) -> None:
        scratch = self.scratch.setdefault(blob_id, Content())
        scratch.extend(bytes(max(0, offset - len(scratch))))
        scratch[offset : offset + len(data)] = data

    def seal(self, reference: Reference) -> None:
        self.begun.append(reference)

    def sealed(self) -> list[Sealed]:
        begun, self.begun = self.begun, []
        ended: list[Sealed] = []
        for reference in begun:
            data = self.scratch.pop(reference.id, Content())
            torn = (len(data), crc32(data)) != (reference.size, reference.crc)
            if not torn:
                data.is_durable = True
                self.named[reference.id] = data
            ended.append(Sealed(reference.id, torn))
        return ended

    def read(self, name: bytes, offset: int, size: int) -> bytes | None:
        data = self.named.get(name)
        return None if data is None else bytes(data[offset : offset + size])

    def remove(self, names: Iterable[bytes]) -> None:
        for name in names:
            self.named.pop(name, None)
            self.scratch.pop(name, None)

    def names(self) -> list[bytes]:
        return [name for name in (*self.named, *self.scratch) if name not in self.ready]

    def free_bytes(self) -> int:
        return 1 << 40

    def close(self) -> None:
        self.begun.clear()
        self.ready.clear()
