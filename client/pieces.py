"""The bytes of a large value where they are: in the memory of the pickler and of the caller's own arrays."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from holdall.protocol import Buffer


class Pieces:
    """Buffers, one after the other. They must not change while they are sent."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self._views = [memoryview(each) for each in buffers if len(each)]
        self._starts: list[int] = []
        self._size = 0
        for view in self._views:
            self._starts.append(self._size)
            self._size += len(view)

    def __len__(self) -> int:
        return self._size

    def cut(self, offset: int, size: int) -> Buffer:
        """A part of them: the memory itself, or a copy of as much if it spans several buffers."""
        found = self.parts(offset, size)
        return found[0] if len(found) == 1 else b"".join(found)

    def parts(self, offset: int, size: int) -> list[memoryview]:
        """A part of them, as the memory itself."""
        first = bisect_right(self._starts, offset) - 1
        found: list[memoryview] = []
        at = offset
        for view, start in zip(self._views[first:], self._starts[first:], strict=True):
            if start >= offset + size:
                break
            found.append(view[at - start : offset + size - start])
            at = start + len(view)
        return found
