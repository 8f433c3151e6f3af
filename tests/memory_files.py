"""Files in memory that can crash: what a worker's folder of blob files is, for tests and the simulator."""

from __future__ import annotations

from collections.abc import Iterable

from holdall.protocol import Buffer
from holdall.worker.large.files import Sealed


class Content(bytearray):
    """What is in a file in memory."""

    is_durable = False
    """Whether it survives a power cut."""


class MemoryFile:
    """A file in memory that is open. It stays when its name is removed."""

    def __init__(self, data: Content) -> None:
        self._data = data
        self._at = 0

    @property
    def size(self) -> int:
        return len(self._data)

    def write(self, data: Buffer) -> int:
        self._data[self._at : self._at + len(data)] = data
        self._data.is_durable = False
        self._at += len(data)
        return len(data)

    def read(self, into: memoryview) -> int:
        data = self._data[self._at : self._at + len(into)]
        into[: len(data)] = data
        self._at += len(data)
        return len(data)

    def sync(self) -> None:
        self._data.is_durable = True


class MemoryFiles:
    """Each file is durable once it is sealed."""

    syncs = True

    def __init__(self) -> None:
        self.named: dict[bytes, Content] = {}
        self.begun: list[tuple[bytes, int]] = []
        """What is to be sealed by the next call of `sealed`."""

    def make(self, name: bytes) -> MemoryFile:
        return MemoryFile(self.named.setdefault(name, Content()))

    def open(self, name: bytes) -> MemoryFile | None:
        return MemoryFile(self.named[name]) if name in self.named else None

    def write(self, name: bytes, offset: int, data: Buffer) -> None:
        content = self.named.setdefault(name, Content())
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
        content.is_durable = False

    def seal(self, name: bytes, size: int) -> None:
        self.begun.append((name, size))

    def sealed(self) -> list[Sealed]:
        begun, self.begun = self.begun, []
        ended: list[Sealed] = []
        for name, size in begun:
            torn = len(self.named.get(name, b"")) != size or name not in self.named
            if not torn:
                self.named[name].is_durable = True
            ended.append(Sealed(name, torn))
        return ended

    def read(self, name: bytes, offset: int, size: int) -> bytes | None:
        data = self.named.get(name)
        return None if data is None else bytes(data[offset : offset + size])

    def remove(self, names: Iterable[bytes]) -> None:
        for name in names:
            self.named.pop(name, None)

    def names(self) -> list[bytes]:
        return list(self.named)

    def path(self, name: bytes) -> str:
        return name.hex()

    def free_bytes(self) -> int:
        return 1 << 40

    def close(self) -> None:
        self.begun.clear()
