"""What has been given to ZeroMQ for its peers and has not left this process: bounded in bytes for each of them, and in all.

ZeroMQ bounds messages: a thousand answers of 1 MiB to a client that takes none of them would stay here. It tells when a large
frame has been handed to the system; until then the frame counts. A message beyond the bounds is dropped, as ZeroMQ drops one
that it has no room for: a client that still wants its answer asks again. A client that keeps to its window never has so many.
"""

from __future__ import annotations

from typing import Any

from holdall import sockets

PEER_BYTES_MAX = 64 * 1024 * 1024
BYTES_MAX = 256 * 1024 * 1024
"""Bounds on what waits to be taken: by one peer, and by all. For whom nothing waits there is room for one frame all the same:
nobody's answers are kept back by those who take none.
"""


class Unsent:
    """The large frames of one socket that are on their way out of here; small ones are not counted: see `holdall.sockets`."""

    def __init__(self) -> None:
        self._bytes = 0
        self._is_full = False
        self._of_peer: dict[bytes, list[tuple[Any, int]]] = {}

    def send(self, socket: Any, peer: bytes, message: list[Any]) -> bool:
        """Send these frames. Returns False if too much waits for this peer already; raises what `sockets.send` does."""
        size = len(message[-1])
        if size <= sockets.COPIED_BYTES_MAX:
            sockets.send(socket, message)
            return True
        waits = self._left(peer)
        if waits + size > PEER_BYTES_MAX:
            return False
        if waits and self._bytes + size > BYTES_MAX:
            for each in list(self._of_peer):
                self._left(each)
            self._is_full = self._bytes + size > BYTES_MAX
            if self._is_full:
                return False
        tracker = sockets.send_tracked(socket, message)
        self._of_peer.setdefault(peer, []).append((tracker, size))
        self._bytes += size
        return True

    def most(self) -> bytes | None:
        """The peer for which most waits, if something was refused since the last call because too much waits for all."""
        is_full, self._is_full = self._is_full, False
        return max(list(self._of_peer), key=self._left, default=None) if is_full else None

    def _left(self, peer: bytes) -> int:
        waiting = [each for each in self._of_peer.get(peer, ()) if not each[0].done]
        left = sum(size for _tracker, size in waiting)
        before = sum(size for _tracker, size in self._of_peer.pop(peer, ()))
        self._bytes -= before - left
        if waiting:
            self._of_peer[peer] = waiting
        return left
