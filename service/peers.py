"""Who is connected by a stream: one each, read in turns, and none of them holds the others up.

In a turn a peer gives about TURN_BYTES of work at most, so a small request waits for one chunk of somebody else's large value,
not for the value. What a peer does not take of its answers is kept up to a bound, for each and for all; beyond that its answers
are dropped: who still wants one asks again. One that keeps to its window never has so many.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from socket import AF_UNIX, IPPROTO_TCP, TCP_NODELAY
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdall import protocol
from holdall.blob import CHUNK_BYTES
from holdall.errors import ProtocolError
from holdall.stream import Reader, Received, pack, pack_routed

if TYPE_CHECKING:
    from socket import socket

    from holdall.protocol import Buffer
    from holdall.service.watch import Watch

TURN_BYTES = CHUNK_BYTES
"""Requests and the chunks they ask for, of one peer in one turn."""
ARRIVALS_PER_TURN = 16
NAME_MARK = b"\0"
"""Begins a name, and 8 bytes follow: a ZeroMQ socket's routing id that begins so has 4 more."""
CLIENT_BYTES_MAX = 64 * 1024 * 1024
BYTES_MAX = 256 * 1024 * 1024
"""Bounds on what waits to be taken: by one of them, and by all."""
UNSENT_MAX = 10_000
"""Pieces of messages that one peer has not taken: small ones cost more than their bytes."""

M = TypeVar("M")
"""A message, as a loop's core takes it."""


class Backlog:
    """Bytes that wait to be taken, of several peers together."""

    def __init__(self) -> None:
        self.bytes = 0


class Peers(Generic[M]):
    """Takes in who comes to these listening sockets, while the door is open or `always`; `made` makes messages of what they
    say. They are `routed` if messages to them say which client they are for.
    """

    def __init__(
        self, listening: list[socket], watch: Watch, made: Made[M], *, always: bool = False, routed: bool = False
    ) -> None:
        self._listening = listening
        self._always = always
        self._watch = watch
        self._made = made
        self._routed = routed
        self._backlog = Backlog()
        self._count = 0
        self._by_name: dict[bytes, Peer[M]] = {}
        self.named = self._by_name.get
        """The one of this name, if it is still connected."""
        for each in listening:
            watch.add(each.fileno(), self, entrance=not always)

    def take(self) -> tuple[list[M], int]:
        """Whoever comes."""
        for listening in self._listening:
            for _ in range(ARRIVALS_PER_TURN):
                if not (self._always or self._watch.lets_in()):
                    break
                try:
                    accepted, _address = listening.accept()
                except OSError:  # nobody is left, or gone again, or there is no descriptor: then the door is closed soon
                    break
                self._count += 1
                name = NAME_MARK + self._count.to_bytes(8, "little")
                self._by_name[name] = Peer(
                    accepted, name, self._watch, self._made, self._backlog, self._leave, routed=self._routed
                )
        return [], 0

    def _leave(self, peer: Peer[M]) -> None:
        del self._by_name[peer.name]


class Peer(Generic[M]):
    """One of them, and where what it is told goes. `closed` is called when it is gone."""

    def __init__(
        self,
        connected: socket,
        name: bytes,
        watch: Watch,
        made: Made[M],
        backlog: Backlog,
        closed: Callable[[Peer[M]], None],
        *,
        routed: bool = False,
    ) -> None:
        connected.setblocking(False)
        if connected.family != AF_UNIX:
            connected.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self.name = name
        """Tells it from all others."""
        self._made = made
        self._backlog = backlog
        self._closed = closed
        self._routed = routed
        self._socket: Any = connected
        self._descriptor = connected.fileno()
        self._watch = watch
        self._reader = Reader(connected)
        self._received: list[Received] = []
        self._unsent: deque[Buffer] = deque()
        self._unsent_bytes = 0
        self.is_open = True
        """Whether it is still there, as far as is known."""
        watch.add(self._descriptor, self)

    def take(self) -> tuple[list[M], int]:
        """What it says, as far as it is its turn, and how much work in bytes that is."""
        if self._unsent:
            self._flush()
        try:
            received = self._received or self._reader.receive()
        except BlockingIOError:
            return [], 0
        except (OSError, EOFError, ProtocolError):
            self._close()
            return [], 0
        messages: list[M] = []
        size = 0
        for each in received:
            try:
                messages.append(self._made(self, self.name, each.head, each.payload))
            except ProtocolError:
                self._close()
                return messages, size
            size += len(each.head)
            if each.payload is not None:
                size += len(each.payload)
            elif protocol.reads_chunk(each.head):
                size += CHUNK_BYTES
            if size >= TURN_BYTES:
                break
        self._received = received[len(messages) :] if self.is_open else []
        if self._received:
            self._watch.touch(self)
        return messages, size

    def send(self, route: bytes, frames: list[Buffer]) -> bool:
        """Send a message, or what goes of it, and the rest when there is room. Returns False if it is dropped."""
        if not self.is_open:
            return False
        buffers = pack_routed(route, frames) if self._routed else pack(frames)
        if self._unsent:
            return self._keep(buffers, whole=True)
        try:
            sent = self._socket.send(buffers[0]) if len(buffers) == 1 else self._socket.sendmsg(buffers)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close()
            return False
        if sent == len(buffers[0]) and len(buffers) == 1:
            return True
        if not sent:
            return self._keep(buffers, whole=True)
        for buffer in buffers:
            if sent < len(buffer):
                self._keep([memoryview(buffer)[sent:]], whole=False)
            sent = max(0, sent - len(buffer))
        return True

    def _keep(self, buffers: list[Buffer], *, whole: bool) -> bool:
        """Send this later. A whole message may be dropped instead: then returns False."""
        size = sum(map(len, buffers))
        over = self._unsent_bytes + size > CLIENT_BYTES_MAX or self._backlog.bytes + size > BYTES_MAX
        if whole and (over or len(self._unsent) >= UNSENT_MAX):
            return False
        if not self._unsent:
            self._watch.expect(self._descriptor, room=True)
        self._unsent.extend(buffers)
        self._count(size)
        return True

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
        self._backlog.bytes += size

    def _close(self) -> None:
        """It is gone, or speaks another language."""
        if not self.is_open:
            return
        self.is_open = False
        self._count(-self._unsent_bytes)
        self._unsent.clear()
        self._received = []
        self._watch.remove(self._descriptor)
        with contextlib.suppress(OSError):
            self._socket.close()
        self._closed(self)


Made = Callable[["Peer[M]", bytes, bytes, "Buffer | None"], M]
"""Makes a message of a peer, its name, a head and a payload. Raises ProtocolError for what no peer of this version says."""
