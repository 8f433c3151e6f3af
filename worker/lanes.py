"""Clients connected by a lane: read in turns, so that none of them holds the others up.

In a turn a lane gives about TURN_BYTES of work at most, so a small request waits for one chunk of another client's large value,
not for the value. Answers that a client does not take are kept up to a bound, for each lane and for all; beyond that they are
dropped: a client that still wants one asks again. A client that keeps to its window never has so many.
"""

from __future__ import annotations

import contextlib
import os
import socket
from errno import EAGAIN, ETOOMANYREFS
from typing import TYPE_CHECKING, Any

from holdall.blob import CHUNK_BYTES
from holdall.errors import ProtocolError
from holdall.framing import Reader, Received, Sender, pack_with_file, peer_uid
from holdall.process.unsent import BYTES_MAX, PEER_BYTES_MAX

from .message import Message, work_bytes

if TYPE_CHECKING:
    from holdall.disk import DiskFile
    from holdall.process.poller import SystemPoller
    from holdall.protocol import Buffer

TURN_BYTES = CHUNK_BYTES
"""Requests and the chunks they ask for, of one lane in one turn."""
ARRIVALS_PER_TURN = 16
UNSENT_MAX = 10_000
"""Pieces of messages that one client has not taken: small ones cost more than their bytes."""


class Entrance:
    """Accepts the clients that connect to this listening socket, while admission is open."""

    def __init__(self, listening: socket.socket, poller: SystemPoller) -> None:
        self._listening = listening
        self._poller = poller
        self.open: set[Lane] = set()
        self.backlog_bytes = 0
        """What waits to be taken, on all lanes together."""
        poller.add(listening.fileno(), self, entrance=True)

    def take(self) -> tuple[list[Message], int]:
        """Accept what connects; no lane has a message yet."""
        for _ in range(ARRIVALS_PER_TURN):
            if not self._poller.admits():
                break
            try:
                accepted, _address = self._listening.accept()
            except OSError:  # none is left, or it has gone again, or there is no descriptor: then admission is closed soon
                break
            self.open.add(Lane(accepted, self._poller, self))
        return [], 0


class Lane:
    """A client's lane to this worker."""

    def __init__(self, connected: socket.socket, poller: SystemPoller, entrance: Entrance) -> None:
        connected.setblocking(False)
        self._entrance = entrance
        self._socket: Any = connected
        self._descriptor = connected.fileno()
        self._poller = poller
        self._reader = Reader(connected)
        self._received: list[Received] = []
        self._sender = Sender(connected)
        self._counted = 0
        self.is_open = True
        """Whether the client is still there, as far as is known."""
        self._is_same_user = peer_uid(connected) == os.getuid()
        poller.add(self._descriptor, self)

    def take(self) -> tuple[list[Message], int]:
        """What the client says, as far as it is its turn, and how much work in bytes that is."""
        if self._sender.unsent:
            self._flush()
        try:
            received = self._received or self._reader.receive()
        except BlockingIOError:
            return [], 0
        except (OSError, EOFError, ProtocolError):
            self._close()
            return [], 0
        messages: list[Message] = []
        size = 0
        for each in received:
            messages.append(Message(self, b"", each.head, each.payload))
            size += work_bytes(each.head, each.payload)
            if size >= TURN_BYTES:
                break
        self._received = received[len(messages) :] if self.is_open else []
        if self._received:
            self._poller.look_again(self)
        return messages, size

    def send(self, _address: bytes, frames: list[Buffer], file: DiskFile | None = None) -> bool:
        """Send a message, or what goes of it, and the rest when there is room; one with an open file at once, or not at all: a
        client that still wants it asks again. Returns False if it is dropped.
        """
        if file is not None:
            return self._send_with(file, frames)
        if not self.is_open:
            return False
        was_waiting = bool(self._sender.unsent)
        try:
            left = self._sender.send(frames)
            if left:
                if not self._may_keep(sum(map(len, left))):
                    return False
                self._sender.keep(left)
        except OSError:
            self._close()
            return False
        if self._sender.unsent:
            self._count()
            if not was_waiting:
                self._poller.expect(self._descriptor, room=True)
        return True

    def _may_keep(self, size: int) -> bool:
        fits = self._sender.bytes + size <= PEER_BYTES_MAX and self._entrance.backlog_bytes + size <= BYTES_MAX
        return fits and len(self._sender.unsent) < UNSENT_MAX

    @property
    def passes_files(self) -> bool:
        """Whether an open file can be sent: to a process of the same user, and never to wait here."""
        return self.is_open and self._is_same_user and not self._sender.unsent

    def _send_with(self, file: DiskFile, frames: list[Buffer]) -> bool:
        if not self.passes_files:
            return False
        message = pack_with_file(frames)
        try:
            sent = socket.send_fds(self._socket, [message], [file.descriptor])
        except OSError as error:
            if error.errno not in (EAGAIN, ETOOMANYREFS):
                self._close()
            return False
        if sent < len(message):  # where in the stream the next message begins would be unknown
            self._close()
        return self.is_open

    def _flush(self) -> None:
        try:
            self._sender.flush()
        except OSError:
            self._close()
            return
        self._count()
        if not self._sender.unsent:
            self._poller.expect(self._descriptor, room=False)

    def _count(self) -> None:
        self._entrance.backlog_bytes += self._sender.bytes - self._counted
        self._counted = self._sender.bytes

    def _close(self) -> None:
        """The client is gone, or breaks the protocol."""
        if not self.is_open:
            return
        self.is_open = False
        self._sender.clear()
        self._count()
        self._received = []
        self._poller.remove(self._descriptor)
        with contextlib.suppress(OSError):
            self._socket.close()
        self._entrance.open.discard(self)
