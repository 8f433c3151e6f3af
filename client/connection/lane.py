"""A lane: a Unix stream to a worker of this machine, for a thread that waits and for an event loop.

A lane ends with the process at its other end, and tells so at once; nothing is sent on it any more, and another one is opened.
Nor does it outlive an exception in the middle of a message, from Ctrl-C for example: where in the stream the next message
begins would be unknown.

A thread that waits for its answer spins before it sleeps: see `holdall.spin`.
"""

from __future__ import annotations

import _socket
import socket
import struct
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING, Any

from holdall import protocol
from holdall.errors import ProtocolError
from holdall.framing import DONT_WAIT, Reader, Received, Sender
from holdall.spin import AnswerSpin

if TYPE_CHECKING:
    import asyncio

    from holdall.protocol import Buffer


class BlockingLane:
    """On a connected stream that the calling thread waits for, in `receive` alone: what cannot be sent at once is sent then."""

    def __init__(self, connected: _socket.socket, wait_seconds: float = 0.0) -> None:
        self.is_broken = False
        self._socket: Any = connected
        self._reader = Reader(connected)
        self._sender = Sender(connected)
        self._wait_milliseconds = wait_seconds * 1000
        self._spin = AnswerSpin()
        if wait_seconds:  # in the system itself: Python's own timeouts cost a system call more for each message
            timeout = struct.pack("ll", *divmod(max(1, int(wait_seconds * 1_000_000)), 1_000_000))
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)

    def send(self, message: list[Buffer]) -> bool:
        if not self.is_broken:
            if message[0][1] in protocol.FILES:  # the opcode: an open file may come with the answer
                self._reader.expect_files()
            try:
                left = self._sender.send(message)
                if left:
                    self._sender.keep(left)
            except OSError:
                self.close()
            except BaseException:
                self.close()
                raise
        return not self.is_broken

    def receive(self, *, wait: bool) -> list[Received]:
        if self.is_broken:
            return []
        try:
            if self._sender.unsent:
                if wait:
                    self._wait_for_either()
                    wait = False
                self._sender.flush()
            return self._spin.wait(self._look, self._reader.receive) if wait else self._reader.receive(DONT_WAIT)
        except BlockingIOError:
            return []
        except (OSError, EOFError, ProtocolError):
            self.close()
            return []
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def close(self) -> None:
        self.is_broken = True
        self._sender.clear()
        with suppress(OSError):
            self._socket.close()

    def _look(self) -> list[Received] | None:
        try:
            return self._reader.receive(DONT_WAIT)
        except BlockingIOError:
            return None

    def _wait_for_either(self) -> None:
        """Until there is something to read, or room for what is to be sent, or it is time to look for something else."""
        import zmq  # whose poll nobody replaces

        poller = zmq.Poller()
        poller.register(self.fileno(), zmq.POLLIN | zmq.POLLOUT)
        poller.poll(ceil(self._wait_milliseconds))


class AwaitingLane(BlockingLane):
    """On a connected stream that a loop looks after: what cannot be sent at once is sent when there is room."""

    def __init__(self, connected: _socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(connected)
        connected.setblocking(False)
        self._loop = loop
        self._is_writing = False

    def send(self, message: list[Buffer]) -> bool:
        done = super().send(message)
        if self._sender.unsent and not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self.fileno(), self._go_on)
        return done

    def close(self) -> None:
        if not self.is_broken and not self._loop.is_closed():
            self._loop.remove_reader(self.fileno())
            self._loop.remove_writer(self.fileno())
        super().close()

    def _go_on(self) -> None:
        try:
            self._sender.flush()
        except OSError:
            self.close()
        if not self._sender.unsent and not self.is_broken:
            self._is_writing = False
            self._loop.remove_writer(self.fileno())
