"""Hostile messages on a lane, and some that are none: these have connections of their own, which end with them."""

from __future__ import annotations

import contextlib
import socket
from select import select

from holdall.framing import READ_BYTES
from tests.fuzz.strangers import connected
from tests.streams import pack


class StreamDealer:
    """Sends to this URL without waiting, with the methods of a ZeroMQ socket that the flood uses."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._unsent = b""
        self._connect()

    def sent(self, message: list[bytes]) -> bool:
        """Whether this message, or what was left of it, has gone. What stands after two frames is sent as it is."""
        if len(message) > 2:
            self._spoil(message)
            return True
        if not self._unsent:
            self._unsent = b"".join(bytes(each) for each in pack(list(message)))
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return False
        except OSError:
            self._connect()
        return not self._unsent

    def poll(self, milliseconds: float, _flags: int) -> None:
        """Wait until more can be sent."""
        select([], [self._socket], [], milliseconds / 1000)

    def drain(self) -> None:
        """Take the answers that are there."""
        try:
            while self._socket.recv(READ_BYTES):
                pass
            self._connect()
        except BlockingIOError:
            pass
        except OSError:
            self._connect()

    def close(self, _linger: int) -> None:
        """Go."""
        self._socket.close()

    def _spoil(self, message: list[bytes]) -> None:
        with connected(self._url) as spoilt, contextlib.suppress(OSError):  # cut off in the middle of it
            spoilt.setblocking(False)
            spoilt.send(b"".join(bytes(each) for each in [*pack(list(message[:2])), *message[2:]]))

    def _connect(self) -> None:
        with contextlib.suppress(AttributeError):
            self._socket.close()
        self._unsent = b""
        self._socket: socket.socket = connected(self._url)
        self._socket.setblocking(False)
