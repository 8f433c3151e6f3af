"""The client's end at the broker: a DEALER, and what ZeroMQ tells of its connection.

ZeroMQ connects again by itself, so this transport never breaks. What had been sent on a connection that ended is lost without
a word, but ZeroMQ's monitor tells of the next connection: `has_come_back` says that all that waits at the broker is to be sent
again.
"""

from __future__ import annotations

from contextlib import suppress
from errno import EMFILE
from typing import TYPE_CHECKING, Any

import zmq

from holdall import sockets
from holdall.errors import ConnectionError
from holdall.framing import Received

if TYPE_CHECKING:
    from holdall.protocol import Buffer

_WAITS, _RCVMORE, _DONTWAIT = 0, int(zmq.RCVMORE), int(zmq.DONTWAIT)


class Dealer:
    """Connected, or about to be, to the broker at this URL. A thread that receives from it waits for `wait_seconds` at most."""

    is_broken = False

    def __init__(self, context: Any, url: str, wait_seconds: float = 0.0) -> None:
        self._dealer: Any = None
        self._monitor: Any = None
        self._connections = 0
        try:
            self._dealer = sockets.client_dealer(context)
            self._dealer.rcvtimeo = int(wait_seconds * 1000)
            self._monitor = self._dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
            self._dealer.connect(url)
        except zmq.ZMQError as error:
            self.close()
            advice = "raise the limit (ulimit -n)" if error.errno == EMFILE else "correct HOLDALL_URL"
            raise ConnectionError(f"cannot connect to {url}: {error.strerror}; {advice}") from None
        self._receive, self._get = self._dealer.recv, self._dealer.get

    def send(self, message: list[Buffer]) -> bool:
        """Send a message."""
        try:
            sockets.send(self._dealer, message)
        except zmq.ZMQError:  # its queue is full, or it was closed meanwhile
            return False
        except BaseException:  # Ctrl-C, perhaps between two frames: with a frame too many it is no request
            if len(message) > 1:
                with suppress(zmq.ZMQError):
                    sockets.send(self._dealer, [b"", b""])
            raise
        return True

    def receive(self, *, wait: bool) -> list[Received]:
        """What comes next, or is there."""
        try:
            head = self._receive(_WAITS if wait else _DONTWAIT)
            if not self._get(_RCVMORE):
                return [Received(head)]
            received = [Received(head, self._receive(_DONTWAIT, copy=False).buffer)]
        except zmq.Again:
            return []
        except BaseException:
            self._skip_rest()
            raise
        self._skip_rest()
        return received

    def has_come_back(self) -> bool:
        """Whether there is another connection than before."""
        before = self._connections
        while sockets.has_message(self._monitor):
            sockets.receive(self._monitor, 2)
            self._connections += 1
        return self._connections > max(before, 1)

    def fileno(self) -> int:
        """The descriptor that tells of messages; it is edge-triggered."""
        return int(self._dealer.fd)

    def monitor_fileno(self) -> int:
        """The descriptor that tells of connections; it is edge-triggered."""
        return int(self._monitor.fd)

    def close(self) -> None:
        """Give it up."""
        for socket in (self._monitor, self._dealer):
            if socket is not None:
                socket.close(0)

    def _skip_rest(self) -> None:
        """Leave nothing of this message to be taken for the next one."""
        with suppress(zmq.ZMQError):
            while self._get(_RCVMORE):
                self._receive(_DONTWAIT, copy=False)
