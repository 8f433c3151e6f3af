"""Messages on a lane: the Unix stream between a client and a worker of one machine.

    stream  = message*
    message = head_length:u32 payload_length:u32 head [payload]

Head and payload are those of `holdall.protocol`; a payload of no bytes is none, and one of FILE_LENGTH is an open descriptor
that comes along with the message (SCM_RIGHTS): from a worker only. What one process sends with a system call the other receives
with one; through a ZeroMQ socket each message passes a thread more on either side.

Memory grows with what has come, not with what a peer has announced: room for a payload is doubled each time it is full.
"""

from __future__ import annotations

import _socket
import socket
from array import array
from collections import deque
from collections.abc import Callable
from itertools import islice
from struct import Struct
from typing import Any, Union

import msgspec

from holdall.disk import DiskFile
from holdall.errors import ProtocolError
from holdall.protocol import FRAME_BYTES_MAX, HEAD_BYTES_MAX, Buffer, Reply

SCHEME = "ipc://"
CONNECT_SECONDS = 0.25
"""A process that does not accept a connection within this time is taken for dead: an event loop may be waiting."""
FILE_LENGTH = 0xFFFFFFFF
READ_BYTES = 64 * 1024
"""Received at once; of a payload as much as there is room for."""
ROOM_BYTES_MIN = 8 * 1024
"""Taken at least for what is still to come of a payload: a thousand peers that announce much and send nothing cost little."""
BUFFERS_MAX = 64
"""Given to the system at once."""
_PREFIX = Struct("<II")
_PREFIX_BYTES = _PREFIX.size
_FILES_BYTES = socket.CMSG_SPACE(4)
_CREDENTIALS = Struct("3i")
_CLOSE_ON_EXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
DONT_WAIT = int(socket.MSG_DONTWAIT)
FILES_MAX = 64
"""Descriptors whose messages are still to come."""


class Received(msgspec.Struct, frozen=True, gc=False):
    """A message that has come."""

    head: bytes
    payload: Union[Buffer, None] = None
    file: Union[DiskFile, None] = None
    reply: Union[Reply, None] = None
    """What the message says, where no message was made of it."""


def path_of(url: str) -> str:
    """The path of the Unix socket at an ipc URL.

    >>> path_of("ipc:///run/worker-0")
    '/run/worker-0'
    """
    return url.removeprefix(SCHEME)


class Stream(_socket.socket):
    """A socket as the system has it: gevent and eventlet replace that of `socket` by one that waits where this does not."""


def connected(url: str) -> Stream:
    """A stream to the process that listens at this ipc URL. Raises OSError if none does, or it takes no more: a stopped one."""
    stream = Stream(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.settimeout(CONNECT_SECONDS)
        stream.connect(path_of(url))
        stream.settimeout(None)
    except BaseException:
        stream.close()
        raise
    return stream


def peer_uid(of: _socket.socket) -> int | None:
    """The user of the process at the other end of this stream; None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    _pid, uid, _gid = _CREDENTIALS.unpack(of.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def pack_with_file(frames: list[Buffer]) -> bytes:
    """The bytes of a message of one frame with which a descriptor is sent."""
    return _PREFIX.pack(len(frames[0]), FILE_LENGTH) + frames[0]


class Reader:
    """Takes the messages out of what comes through a socket; unexpected descriptors are dropped by the system."""

    def __init__(self, of: _socket.socket) -> None:
        self._socket: Any = of
        self._next: Callable[[int, int], bytes] = of.recv
        self._files: deque[DiskFile] = deque()
        self._rest = b""  # the beginning of a message whose head is not here yet
        self._head = b""
        self._payload = bytearray()  # room for what has come of this head's payload, and some more, while it is on its way
        self._payload_length = 0
        self._filled = 0

    def expect_files(self) -> None:
        """Keep the descriptors that come along from now on: each belongs to the message that says so."""
        self._next = self._next_with_files

    def receive(self, flags: int = 0) -> list[Received]:
        """The messages that are complete with what comes next.

        Raises BlockingIOError if nothing does, EOFError at the end, ProtocolError for what no peer of this version sends, and
        whatever else ends a connection. After any but the first the place in the stream is lost.
        """
        if self._payload:
            count = self._socket.recv_into(memoryview(self._payload)[self._filled :], 0, flags)
            if not count:
                raise EOFError
            return self._fill(count)
        data = self._next(READ_BYTES, flags)
        if not data:
            raise EOFError
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if len(data) >= _PREFIX_BYTES:
            head_length, payload_length = _PREFIX.unpack_from(data)
            if head_length == len(data) - _PREFIX_BYTES and not payload_length:  # one small message: the usual case
                return [Received(data[_PREFIX_BYTES:])]
        return self._split(data)

    def _split(self, data: bytes) -> list[Received]:
        end = len(data)
        messages: list[Received] = []
        start = 0
        while start + _PREFIX_BYTES <= end:
            head_length, payload_length = _PREFIX.unpack_from(data, start)
            file = None
            if payload_length == FILE_LENGTH:
                if not self._files:
                    raise ProtocolError("a message says that a descriptor comes along, and none has come")
                file, payload_length = self._files[0], 0
            if head_length > HEAD_BYTES_MAX or payload_length > FRAME_BYTES_MAX:
                raise ProtocolError(f"a message with {head_length:,} and {payload_length:,} bytes is larger than any may be")
            head_end = start + _PREFIX_BYTES + head_length
            if head_end > end:
                break
            head = data[start + _PREFIX_BYTES : head_end]
            start = head_end
            if not payload_length:
                messages.append(Received(head, None, file))
                if file is not None:
                    self._files.popleft()
            elif start + payload_length <= end:
                messages.append(Received(head, data[start : start + payload_length]))
                start += payload_length
            else:
                self._head, self._payload = head, bytearray(data[start:])
                self._payload_length, self._filled = payload_length, end - start
                self._make_room()
                start = end
        self._rest = data[start:]
        return messages

    def _next_with_files(self, most: int, flags: int) -> bytes:
        data: bytes
        data, along, _flags, _address = self._socket.recvmsg(most, _FILES_BYTES, flags | _CLOSE_ON_EXEC)
        for _level, _kind, descriptors in along:
            whole = len(descriptors) - len(descriptors) % array("i").itemsize
            self._files.extend(map(DiskFile, array("i", descriptors[:whole])))
        if len(self._files) > FILES_MAX:
            raise ProtocolError(f"more than {FILES_MAX} descriptors have come without their messages")
        return data

    def _fill(self, count: int) -> list[Received]:
        self._filled += count
        if self._filled < self._payload_length:
            if self._filled == len(self._payload):
                self._make_room()
            return []
        message = Received(self._head, memoryview(self._payload))
        self._payload = bytearray()
        return [message]

    def _make_room(self) -> None:
        room = min(max(self._filled, ROOM_BYTES_MIN), self._payload_length - self._filled)
        self._payload.extend(bytes(room))


class Sender:
    """Sends messages through a socket, and waits for nothing: what there is no room for can be kept, in order, until `flush`.

    Whatever is raised, an OSError too, leaves the stream at an unknown place.
    """

    def __init__(self, of: _socket.socket) -> None:
        self._socket: Any = of
        self.unsent: deque[Buffer] = deque()
        """What is kept."""
        self.bytes = 0
        """Of what is kept."""

    def send(self, frames: list[Buffer]) -> list[Buffer]:
        """Send a message of one or two frames; what is left of it is kept. Returns the bytes of one of which nothing went."""
        head, *payload = frames
        buffers = [_PREFIX.pack(len(head), len(payload[0]) if payload else 0) + head, *payload]
        sent = 0 if self.unsent else self._give(buffers)
        if sent == len(buffers[0]) and len(buffers) == 1:
            return []
        if not sent:
            return buffers
        self.keep(buffers)
        self._sent(sent)
        return []

    def keep(self, buffers: list[Buffer]) -> None:
        """Keep the bytes of a message of which nothing went."""
        self.unsent.extend(buffers)
        self.bytes += sum(map(len, buffers))

    def flush(self) -> None:
        """Send as much of what is kept as there is room for."""
        while self.unsent:
            sent = self._give([*islice(self.unsent, BUFFERS_MAX)])
            if not sent:
                return
            self._sent(sent)

    def clear(self) -> None:
        self.unsent.clear()
        self.bytes = 0

    def _give(self, buffers: list[Buffer]) -> int:
        """Give these to the system. Returns how many bytes it took."""
        try:
            if len(buffers) == 1:  # which costs less
                return int(self._socket.send(buffers[0], DONT_WAIT))
            return int(self._socket.sendmsg(buffers, (), DONT_WAIT))
        except BlockingIOError:
            return 0

    def _sent(self, count: int) -> None:
        self.bytes -= count
        while self.unsent and count >= len(self.unsent[0]):
            count -= len(self.unsent.popleft())
        if count:
            self.unsent[0] = memoryview(self.unsent[0])[count:]
