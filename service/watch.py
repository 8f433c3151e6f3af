"""What a broker's and a worker's loop wait for: messages on their sockets, a thread's call, and the end of their process.

One system call looks at everything; `zmq.Poller` makes six for two sockets. ZeroMQ's descriptor is edge-triggered: it tells of
what came since the socket was last read or written to, so a socket that was is looked at once more before its descriptor is
believed again. It looks after the door too, once a turn.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from typing import Any

from holdall.service.child import Child
from holdall.service.door import Door


class Watch:
    """The sockets and descriptors of one loop."""

    def __init__(self, child: Child, door: Door, *sockets: Any) -> None:
        self.is_over = False
        """Whether this process is to end."""
        self._door = door
        self._poll = select.poll()
        self._woken = -1
        self._sockets = {socket.fd: socket for socket in sockets}
        self._touched: set[Any] = set(sockets)
        for descriptor in (*self._sockets, *child.watched):
            self._poll.register(descriptor, select.POLLIN)

    def waker(self) -> Callable[[], None]:
        """What a thread calls to end the wait."""
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        self._poll.register(self._woken, select.POLLIN)

        def call() -> None:
            with contextlib.suppress(BlockingIOError):  # it has been called so often that the pipe is full
                os.write(wake, b"\0")

        return call

    def touch(self, socket: Any) -> None:
        """This socket has been read or written to."""
        self._touched.add(socket)

    def wait(self, milliseconds: float) -> set[Any]:
        """The sockets to read, until nothing is left: those that were touched at once, others when a message comes."""
        ready, self._touched = self._touched, set()
        milliseconds = min(milliseconds, self._door.look())
        for descriptor, _event in self._poll.poll(0 if ready else milliseconds):
            if descriptor in self._sockets:
                ready.add(self._sockets[descriptor])
            elif descriptor == self._woken:
                os.read(descriptor, 4096)
            else:
                self.is_over = True
        return ready
