"""A lane: a Unix stream to a worker of this machine, for a thread that waits and for an event loop.

A lane ends with the process at its other end, and tells so at once; nothing is sent on it any more, and another one is opened.
Nor does it outlive an exception in the middle of a message, from Ctrl-C for example: where in the stream the next message
begins would be unknown.

A thread that waits looks for its answer for LANE_LOOK_SECONDS before it sleeps. The invariant: a look takes what is there and
gives the processor away before the next one, so a worker that is to answer is never kept from it.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from holdall import processors
from holdall.errors import ProtocolError
from holdall.framing import FileReader, Received, pack

if TYPE_CHECKING:
    import asyncio

    from holdall.protocol import Buffer

BUFFERS_MAX = 64
"""Given to the system at once."""
LANE_LOOK_SECONDS = 0.000075
"""How long to look for an answer: to fall asleep and be woken takes longer than a small request."""
MISSES_MAX = 2
"""So many answers that came later, one after the other, come from a disk or from afar: the next one is waited for asleep."""


class BlockingLane:
    """On a connected stream that the calling thread waits for, in `receive` alone: what cannot be sent at once is sent then.

    After MISSES_MAX answers that came too late to be found it sleeps at once, until one comes soon.
    """

    def __init__(self, connected: socket.socket, wait_seconds: float = 0.0) -> None:
        self.is_broken = False
        self._socket: Any = connected
        self._reader = FileReader(connected)
        self._unsent: deque[Buffer] = deque()
        self._wait_milliseconds = wait_seconds * 1000
        self._misses = 0 if processors.can_give_way() else MISSES_MAX
        if wait_seconds:  # in the system itself: Python's own timeouts cost a system call more for each message
            timeout = struct.pack("ll", *divmod(max(1, int(wait_seconds * 1_000_000)), 1_000_000))
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)

    def send(self, message: list[Buffer]) -> bool:
        """Send a message."""
        if self.is_broken:
            return False
        buffers = pack(message)
        try:
            count = 0 if self._unsent else self._give(buffers)
            if count == len(buffers[0]) and len(buffers) == 1:
                return True
            if not self.is_broken:
                self._unsent.extend(buffers)
                self._sent(count)
        except BaseException:
            self.close()
            raise
        return not self.is_broken

    def receive(self, *, wait: bool) -> list[Received]:
        """What comes next, or is there."""
        if self._unsent and not self.is_broken:
            if wait:
                self._wait_for_either()
                wait = False
            self._flush()
        if self.is_broken:
            return []
        try:
            return self._await() if wait else self._reader.receive(socket.MSG_DONTWAIT)
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
        self._unsent.clear()
        with suppress(OSError):
            self._socket.close()

    def _await(self) -> list[Received]:
        """What comes next: looked for, and then waited for asleep. Raises what `Reader.receive` raises."""
        began = now = monotonic()
        while self._misses < MISSES_MAX and now - began < LANE_LOOK_SECONDS:
            os.sched_yield()
            try:
                received = self._reader.receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                now = monotonic()
                continue
            self._misses = 0
            return received
        received = self._reader.receive()
        if processors.can_give_way():
            self._misses = 0 if monotonic() - began < LANE_LOOK_SECONDS else self._misses + 1
        return received

    def _wait_for_either(self) -> None:
        """Until there is something to read, or room for what is to be sent, or it is time to look for something else."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLOUT)
        poll.poll(self._wait_milliseconds)

    def _give(self, buffers: list[Buffer]) -> int:
        """Give these to the system. Returns how many bytes it took: 0 if there is no room, or no stream any more."""
        try:
            if len(buffers) == 1:  # which costs less
                return int(self._socket.send(buffers[0], socket.MSG_DONTWAIT))
            return int(self._socket.sendmsg(buffers, (), socket.MSG_DONTWAIT))
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return 0

    def _flush(self) -> None:
        try:
            while self._unsent:
                count = self._give([*self._unsent][:BUFFERS_MAX])
                if not count:
                    return
                self._sent(count)
        except BaseException:
            self.close()
            raise

    def _sent(self, count: int) -> None:
        while self._unsent and count >= len(self._unsent[0]):
            count -= len(self._unsent.popleft())
        if count:
            self._unsent[0] = memoryview(self._unsent[0])[count:]


class AwaitingLane(BlockingLane):
    """On a connected stream that a loop looks after: what cannot be sent at once is sent when there is room."""

    def __init__(self, connected: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(connected)
        connected.setblocking(False)
        self._loop = loop
        self._is_writing = False

    def send(self, message: list[Buffer]) -> bool:
        """Send a message."""
        done = super().send(message)
        if self._unsent and not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self.fileno(), self._go_on)
        return done

    def close(self) -> None:
        """Give it up."""
        if not self.is_broken and not self._loop.is_closed():
            self._loop.remove_reader(self.fileno())
            self._loop.remove_writer(self.fileno())
        super().close()

    def _go_on(self) -> None:
        self._flush()
        if not self._unsent and not self.is_broken:
            self._is_writing = False
            self._loop.remove_writer(self.fileno())
