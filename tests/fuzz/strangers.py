"""Connections that speak no ZMTP, or stop in the middle of it, or declare what they never send."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from random import Random

SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = SIGNATURE + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_READY = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
_PING = b"\x04PING" + bytes(2)
OPEN_MAX = 100
"""Connections held open at once: the oldest is closed for a new one."""


def handshake(identity: bytes = b"") -> bytes:
    """All that a DEALER says before its first message. Of an identity ZeroMQ's own sockets let nobody have over 255 bytes."""
    ready = _READY + b"\x08Identity" + struct.pack(">I", len(identity)) + identity
    size = bytes([4, len(ready)]) if len(ready) <= 255 else b"\x06" + struct.pack(">Q", len(ready))
    return GREETING + size + ready


HANDSHAKE = handshake()


def connected(url: str) -> socket.socket:
    """A bare connection to this URL. Raises OSError."""
    if url.startswith("ipc://"):
        raw = socket.socket(socket.AF_UNIX)
        try:
            raw.connect(url.removeprefix("ipc://"))
        except OSError:
            raw.close()
            raise
        return raw
    host, port = url.removeprefix("tcp://").split(":")
    return socket.create_connection((host, int(port)))


class Strangers:
    """They come to these URLs, one after the other."""

    def __init__(self, urls: list[str], seed: int) -> None:
        self.count = 0
        self._urls = urls
        self._random = Random(f"strangers {seed}")
        self._open: deque[socket.socket] = deque()

    def come(self) -> None:
        """One more: it says something and stays, until others have come."""
        self.count += 1
        with contextlib.suppress(OSError):  # not taken, or cut off in the middle of its words
            raw = connected(self._random.choice(self._urls))
            raw.setblocking(False)
            self._open.append(raw)
            raw.send(self._words())
        while len(self._open) > OPEN_MAX:
            self._open.popleft().close()

    def leave(self) -> None:
        """All of them."""
        while self._open:
            self._open.popleft().close()

    def _words(self) -> bytes:
        random = self._random
        words = [
            b"",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\x01\x00" + bytes([30, 0]) + random.randbytes(29),  # ZMTP/1.0, and a message
            random.randbytes(random.randrange(1, 2000)),
            GREETING[: random.randrange(len(GREETING))],
            HANDSHAKE[: random.randrange(len(HANDSHAKE))],
            HANDSHAKE + b"\x02" + struct.pack(">Q", random.choice([2**31, 2**63, 2**64 - 1])),  # a huge frame
            HANDSHAKE + b"\x02" + struct.pack(">Q", 100 * 1024 * 1024) + bytes(1000),  # one that may be, and never comes
            HANDSHAKE + b"\x01\x00" * random.randrange(500),  # frames without an end
            HANDSHAKE + (bytes([4, len(_PING)]) + _PING) * random.randrange(500),  # and takes no answer
            handshake(random.randbytes(random.choice([1, 5, 255, 256, 10_000]))) + b"\x00\x05hello",
            HANDSHAKE + random.randbytes(random.randrange(200)),
            GREETING.replace(b"NULL", b"PLAI") + random.randbytes(100),
            GREETING.replace(b"NULL\0", b"CURVE") + random.randbytes(200),
        ]
        return random.choice(words)
