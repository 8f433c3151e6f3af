"""Memory that large values are unpickled out of, kept for the next one.

The system gives a process new memory page by page, when it is first touched, and that takes longer than all that is done with
it: of a `bytes` of 1 MiB that was got again and again, 0.42 of 1.6 ms were the memory it came into, and as much the memory of
the value itself, since two such pieces are more than the C library keeps when they are freed. With one of them kept here the
value's own is not given back to the system either.
"""

from __future__ import annotations

KEPT_BYTES_MAX = 4 * 1024 * 1024
"""A client keeps one piece of at most so many bytes."""


class Scratch:
    """Of one client, for any of its threads."""

    def __init__(self) -> None:
        self._kept: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """Memory of so many bytes, whatever is in it, for whoever takes it alone."""
        try:
            kept = self._kept.pop()
            if len(kept) >= size:
                del kept[size:]
                return kept
        except (IndexError, BufferError):  # there is none, or somebody still looks into it
            pass
        return bytearray(size)

    def give_back(self, memory: bytearray) -> None:
        """Nothing refers to this any more."""
        if len(memory) <= KEPT_BYTES_MAX:
            self._kept[:] = [memory]
