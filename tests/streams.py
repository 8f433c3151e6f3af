"""A lane to a worker that says what it likes, with the methods of a ZeroMQ socket that tests use."""

from __future__ import annotations

from collections import deque
from select import select
from typing import Any

from holdall.framing import Reader, Received, connected, pack
from holdall.protocol import FRAME_BYTES_MAX, HEAD_BYTES_MAX


class StreamClient:
    """A connection to the worker at this URL."""

    def __init__(self, url: str, *, timeout: float | None = None) -> None:
        self.socket = connected(url)
        self.socket.settimeout(timeout)
        self.reader = Reader(self.socket)
        self._received: deque[Received] = deque()

    def send_multipart(self, frames: Any) -> None:
        """Send one message of one or two frames."""
        for each in pack(list(frames)):
            self.socket.sendall(each)

    def send(self, frame: bytes) -> None:
        """Send one message of one frame."""
        self.send_multipart([frame])

    def recv_multipart(self) -> list[Any]:
        """The frames of the next message. Raises what `Reader.receive` raises, or TimeoutError."""
        while not self._received:
            self._received.extend(self.reader.receive())
        received = self._received.popleft()
        return [received.head] if received.payload is None else [received.head, received.payload]

    def poll(self, milliseconds: float) -> bool:
        """Whether a message, or a part of one, comes within this time."""
        return bool(self._received) or bool(select([self.socket], [], [], milliseconds / 1000)[0])

    def __enter__(self) -> StreamClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


OVERSIZED = (FRAME_BYTES_MAX + 1).to_bytes(4, "little")
"""A length that no head and no payload may have."""
OVERSIZED_HEAD = (HEAD_BYTES_MAX + 1).to_bytes(4, "little")
"""One that a payload may have."""
