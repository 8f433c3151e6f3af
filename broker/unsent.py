"""What has been given to ZeroMQ for clients and has not left this process: bounded in bytes for each of them, and in all.

ZeroMQ bounds messages: a thousand answers of 1 MiB to a client that takes none of them would stay here. It tells when a large
frame has been handed to the system; until then it counts. An answer beyond the bounds is dropped, as ZeroMQ drops one that it
has no room for: a client that still wants it asks again. One that keeps to its window never has so many.
"""

from __future__ import annotations

from typing import Any

from holdall import frames
from holdall.service.peers import BYTES_MAX, CLIENT_BYTES_MAX


class Unsent:
    """The large frames that are on their way out of this process. Small ones are not counted: ZeroMQ keeps at most a thousand
    messages for a client.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._of_client: dict[tuple[int, bytes], list[tuple[Any, int]]] = {}

    def send(self, socket: Any, message: list[Any]) -> bool:
        """Send [route, frames…]. Returns False if too much waits for this client already; raises what `frames.send` does."""
        size = len(message[-1])
        if size <= frames.COPIED_BYTES_MAX:
            frames.send(socket, message)
            return True
        client = id(socket), bytes(message[0])
        waits = self._left(client)
        if waits + size > CLIENT_BYTES_MAX:
            return False
        if self._bytes + size > BYTES_MAX:
            for each in list(self._of_client):
                self._left(each)
            if self._bytes + size > BYTES_MAX:
                return False
        tracker = frames.send_tracked(socket, message)
        self._of_client.setdefault(client, []).append((tracker, size))
        self._bytes += size
        return True

    def _left(self, client: tuple[int, bytes]) -> int:
        """How many bytes still wait for this client."""
        waiting = [each for each in self._of_client.get(client, ()) if not each[0].done]
        left = sum(size for _tracker, size in waiting)
        before = sum(size for _tracker, size in self._of_client.pop(client, ()))
        self._bytes -= before - left
        if waiting:
            self._of_client[client] = waiting
        return left
