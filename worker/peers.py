"""The clients who came straight: one stream each, read in turns, and none of them holds the others up.

In a turn a peer gives about TURN_BYTES of work at most, so a small request waits for one chunk of somebody else's large value,
not for the value. What a peer does not take of its answers is kept up to a bound, for each and for all; beyond that its answers
are dropped: a client that still wants one asks again. One that keeps to its window never has so many.
"""

from __future__ import annotations

import contextlib
from collections import deque
from socket import AF_UNIX, IPPROTO_TCP, TCP_NODELAY
from typing import TYPE_CHECKING, Any

from holdall import protocol
from holdall.blob import CHUNK_BYTES
from holdall.errors import ProtocolError
from holdall.service.unsent import BYTES_MAX, CLIENT_BYTES_MAX
from holdall.stream import Reader, Received, pack
from holdall.worker.core import Message

if TYPE_CHECKING:
    from socket import socket

    from holdall.protocol import Buffer
    from holdall.service.watch import Watch

TURN_BYTES = CHUNK_BYTES
"""Requests and the chunks they ask for, of one peer in one turn."""
ARRIVALS_PER_TURN = 16
UNSENT_MAX = 10_000
"""Pieces of answers that one peer has not taken: small ones cost more than their bytes."""


class Peers:
    """Takes in who comes to a listening socket."""

    def __init__(self, listening: socket, watch: Watch) -> None:
        self.unsent_bytes = 0
        """Of answers that wait, for all of them."""
        self._listening = listening
        self._watch = watch
        self._count = 0
        watch.add(listening.fileno(), self)

    def take(self) -> tuple[list[Message], int]:
        """Whoever comes."""
        for _ in range(ARRIVALS_PER_TURN):
            try:
                accepted, _address = self._listening.accept()
            except OSError:  # nobody is left, or gone again, or there is no descriptor: then the door is closed soon
                break
            self._count += 1
            Peer(self, accepted, self._count.to_bytes(8, "little"), self._watch)
        return [], 0


class Peer:
    """One of them, and where its answers go. `name` tells it from all others."""

    def __init__(self, peers: Peers, accepted: socket, name: bytes, watch: Watch) -> None:
        accepted.setblocking(False)
        if accepted.family != AF_UNIX:
            accepted.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self._peers = peers
        self._socket: Any = accepted
        self._descriptor = accepted.fileno()
        self._name = name
        self._watch = watch
        self._reader = Reader(accepted)
        self._received: list[Received] = []
        self._unsent: deque[Buffer] = deque()
        self._unsent_bytes = 0
        self._is_open = True
        watch.add(self._descriptor, self)

    def take(self) -> tuple[list[Message], int]:
        """What it asks, as far as it is its turn, and how much work in bytes that is."""
        if self._unsent:
            self._flush()
        received = self._received or self._receive()
        messages: list[Message] = []
        size = 0
        for each in received:
            messages.append(Message(self, self._name, each.head, each.payload))
            size += len(each.head)
            if each.payload is not None:
                size += len(each.payload)
            elif protocol.reads_chunk(each.head):
                size += CHUNK_BYTES
            if size >= TURN_BYTES:
                break
        self._received = received[len(messages) :]
        if self._received:
            self._watch.touch(self)
        return messages, size

    def send(self, _route: bytes, frames: list[Buffer]) -> None:
        """Send an answer, or what goes of it, and the rest when there is room."""
        if not self._is_open:
            return
        buffers = pack(frames)
        if self._unsent:
            self._keep(buffers, whole=True)
            return
        try:
            sent = self._socket.send(buffers[0]) if len(buffers) == 1 else self._socket.sendmsg(buffers)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close()
            return
        if not sent:
            self._keep(buffers, whole=True)
            return
        for buffer in buffers:
            if sent < len(buffer):
                self._keep([memoryview(buffer)[sent:]], whole=False)
            sent = max(0, sent - len(buffer))

    def _receive(self) -> list[Received]:
        if not self._is_open:
            return []
        try:
            return self._reader.receive()
        except BlockingIOError:
            return []
        except (OSError, EOFError, ProtocolError):
            self._close()
            return []

    def _keep(self, buffers: list[Buffer], *, whole: bool) -> None:
        """Send this later. A whole answer may be dropped instead."""
        size = sum(map(len, buffers))
        over = self._unsent_bytes + size > CLIENT_BYTES_MAX or self._peers.unsent_bytes + size > BYTES_MAX
        if whole and (over or len(self._unsent) >= UNSENT_MAX):
            return
        if not self._unsent:
            self._watch.expect(self._descriptor, room=True)
        self._unsent.extend(buffers)
        self._count(size)

    def _flush(self) -> None:
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent[0])
                self._count(-sent)
                if sent < len(self._unsent[0]):
                    self._unsent[0] = memoryview(self._unsent[0])[sent:]
                else:
                    self._unsent.popleft()
            self._watch.expect(self._descriptor, room=False)
        except BlockingIOError:
            pass
        except OSError:
            self._close()

    def _count(self, size: int) -> None:
        self._unsent_bytes += size
        self._peers.unsent_bytes += size

    def _close(self) -> None:
        """It is gone, or speaks another language."""
        self._is_open = False
        self._count(-self._unsent_bytes)
        self._unsent.clear()
        self._watch.remove(self._descriptor)
        with contextlib.suppress(OSError):
            self._socket.close()
