"""Connections that speak no ZMTP, or stop in the middle of it, or declare what they never send, or claim what nobody may."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from random import Random

from holdall.protocol import FRAME_BYTES_MAX

SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = SIGNATURE + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_PING = b"\x04PING" + bytes(2)
OPEN_MAX = 100
"""Connections held open at once: the oldest is closed for a new one."""
ANSWER_SECONDS = 1.0


def handshake(identity: bytes = b"", kind: bytes = b"DEALER") -> bytes:
    """All that a socket of this kind says before its first message. No socket of ZeroMQ's own has an identity of more than 255
    bytes.
    """
    properties = ((b"Identity", identity), (b"Socket-Type", kind))
    ready = b"\x05READY" + b"".join(
        bytes([len(name)]) + name + struct.pack(">I", len(value)) + value for name, value in properties
    )
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


def shake_hands(raw: socket.socket, words: bytes) -> bytes:
    """Say this; returns all that a socket of ZeroMQ says before its first message. Raises OSError, or EOFError when cut off."""
    raw.sendall(words)
    heard = b""
    greeting = len(GREETING)
    while len(heard) < greeting + 2 or len(heard) < greeting + 2 + heard[greeting + 1]:
        more = raw.recv(1000)
        if not more:
            raise EOFError
        heard += more
    return heard


class Strangers:
    """They come to these URLs, one after the other. `answers`: whether a handshake is answered there, as ZeroMQ does."""

    def __init__(self, urls: list[str], seed: int, *, answers: bool) -> None:
        self.count = 0
        self._answers = answers
        self._urls = urls
        self._random = Random(f"strangers {seed}")
        self._open: deque[socket.socket] = deque()

    def come(self) -> None:
        """One more: it says something and stays, until others have come."""
        self.count += 1
        introduction, words = self._words()
        with contextlib.suppress(OSError, EOFError):  # not taken, or cut off in the middle of its words
            raw = connected(self._random.choice(self._urls))
            self._open.append(raw)
            if introduction and self._answers:  # what is said before the answer is not even looked at
                raw.settimeout(ANSWER_SECONDS)
                shake_hands(raw, introduction)
                introduction = b""
            raw.setblocking(False)
            raw.send(introduction + words)
        while len(self._open) > OPEN_MAX:
            self._open.popleft().close()

    def leave(self) -> None:
        """All of them."""
        while self._open:
            self._open.popleft().close()

    def _words(self) -> tuple[bytes, bytes]:
        """What is said until the other side has answered, if that is waited for, and what is said then."""
        random = self._random
        long_identity = handshake(random.randbytes(random.choice([1, 5, 255, 256, 10_000])))
        return random.choice(
            [
                (b"", b""),
                (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
                (b"", b"\x01\x00" + bytes([30, 0]) + random.randbytes(29)),  # ZMTP/1.0, and a message
                (b"", random.randbytes(random.randrange(1, 2000))),
                (b"", GREETING[: random.randrange(len(GREETING))]),
                (b"", HANDSHAKE[: random.randrange(len(HANDSHAKE))]),
                (b"", HANDSHAKE + b"\x00\x05hello"),
                (HANDSHAKE, b"\x02" + struct.pack(">Q", random.choice([2**31, 2**63, 2**64 - 1]))),  # a huge frame
                (HANDSHAKE, b"\x02" + struct.pack(">Q", FRAME_BYTES_MAX) + bytes(1000)),  # one that may be, and never comes
                (HANDSHAKE, b"\x01\x00" * random.randrange(500)),  # frames without an end
                (HANDSHAKE, (bytes([4, len(_PING)]) + _PING) * random.randrange(500)),  # and takes no answer
                (HANDSHAKE, b"\x00\x05hello" * random.randrange(500)),
                (HANDSHAKE, random.randbytes(random.randrange(200))),
                (long_identity, b"\x00\x05hello" * random.randrange(500)),
                (b"", GREETING.replace(b"NULL", b"PLAI") + random.randbytes(100)),
                (b"", GREETING.replace(b"NULL\0", b"CURVE") + random.randbytes(200)),
            ]
        )
