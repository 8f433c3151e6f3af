"""Ways on streams, straight to a worker or through a broker of this machine: for a thread that waits and for an event loop.

A stream ends with the process at its other end, and tells so at once; nothing is sent on it any more, and another one is
opened. Nor does it outlive an exception in the middle of a message, from Ctrl-C for example: where in it the next message
begins would be unknown.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from holdall.errors import ProtocolError
from holdall.stream import Reader, Received, pack

if TYPE_CHECKING:
    import asyncio

    from holdall.protocol import Buffer

BUFFERS_MAX = 64
"""Given to the system at once."""


def wait_at_most(stream: socket.socket, *, receive_seconds: float, send_seconds: float) -> None:
    """Bound each wait on it, in the system itself: Python's own timeouts cost a system call more for each message."""
    for option, seconds in ((socket.SO_RCVTIMEO, receive_seconds), (socket.SO_SNDTIMEO, send_seconds)):
        timeout = struct.pack("ll", *divmod(max(1, int(seconds * 1_000_000)), 1_000_000))
        stream.setsockopt(socket.SOL_SOCKET, option, timeout)


class Stream:
    """On a connected stream that the calling thread waits for."""

    def __init__(self, connected: socket.socket) -> None:
        self.is_broken = False
        self._socket: Any = connected
        self._reader = Reader(connected)

    def put(self, message: list[Buffer]) -> bool:
        """Send a message."""
        if self.is_broken:
            return False
        try:
            for each in pack(message):
                self._socket.sendall(each)
        except OSError:
            self.close()
            return False
        except BaseException:
            self.close()
            raise
        return True

    def read(self, *, wait: bool) -> list[Received]:
        """What comes next, or is there."""
        if self.is_broken:
            return []
        try:
            return self._reader.receive(0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except (OSError, EOFError, ProtocolError):
            self.close()
            return []
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Its descriptor."""
        return int(self._socket.fileno())

    def close(self) -> None:
        """Give it up."""
        self.is_broken = True
        with suppress(OSError):
            self._socket.close()


class AwaitingStream(Stream):
    """On a connected stream that a loop looks after: what cannot be sent at once is sent when there is room."""

    def __init__(self, connected: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(connected)
        connected.setblocking(False)
        self._loop = loop
        self._unsent: deque[Buffer] = deque()

    def put(self, message: list[Buffer]) -> bool:
        """Send a message."""
        if self.is_broken:
            return False
        waits = bool(self._unsent)
        self._unsent.extend(pack(message))
        if not waits:
            self._flush()
            if self._unsent:
                self._loop.add_writer(self.fileno(), self._go_on)
        return not self.is_broken

    def close(self) -> None:
        """Give it up."""
        if not self.is_broken and not self._loop.is_closed():
            self._loop.remove_reader(self.fileno())
            self._loop.remove_writer(self.fileno())
        self._unsent.clear()
        super().close()

    def _go_on(self) -> None:
        self._flush()
        if not self._unsent and not self.is_broken:
            self._loop.remove_writer(self.fileno())

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._sent(self._socket.sendmsg([*self._unsent][:BUFFERS_MAX]))
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        except BaseException:
            self.close()
            raise

    def _sent(self, count: int) -> None:
        while self._unsent and count >= len(self._unsent[0]):
            count -= len(self._unsent.popleft())
        if count:
            self._unsent[0] = memoryview(self._unsent[0])[count:]
