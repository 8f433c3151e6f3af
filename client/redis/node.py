"""A connection to one node: it never waits, for a name, a handshake, or room to write."""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import hiredis

from .command import Command, ignored

if TYPE_CHECKING:
    from .target import Target

RECEIVED_BYTES = 64 * 1024
READY_SECONDS = 2.0
"""How long it may take until a node can be asked; then the next attempt begins."""
JOINED_BYTES_MAX = 64 * 1024
"""Up to here what is to be sent is put together first."""
_TIME = struct.Struct("@ll")


class State(Enum):
    """Of a connection."""

    RESOLVING = 0
    CONNECTING = 1
    SHAKING_HANDS = 2
    GREETING = 3
    READY = 4
    CLOSED = 5


def _first(address: tuple[str, int], flags: int = 0) -> Any:
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=flags)[0]
        return found[0], found[4]
    except OSError as error:
        return error


_packed: Callable[[tuple[bytes, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]
"""Of bytes alone: with a number among them it is not safe to be interrupted by a signal."""


class Node:
    """Connected, or about to be, to this address, for a thread that waits for `wait_seconds` at most, or a loop."""

    def __init__(self, target: Target, tls: Any, selector: Any, wait_seconds: float, address: tuple[str, int]) -> None:
        self.address = address
        self.state = State.RESOLVING
        self.sent: deque[Command] = deque()
        """What has been sent and is not answered yet, in order."""
        self.seen = State.RESOLVING
        """The state that `Nodes` knows."""
        self.heard_at = self.began_at = monotonic()
        self.trouble = ""
        """Why it was closed."""
        self._target, self._context, self._selector, self._wait_seconds = target, tls, selector, wait_seconds
        self._found: Any = _first(address, socket.AI_NUMERICHOST)
        """[family, address], an OSError, or None: that is not known yet."""
        if isinstance(self._found, OSError):  # it is a name
            self._found = None
            threading.Thread(target=self._look, daemon=True).start()
        self._socket: Any = None
        self._reader = hiredis.Reader()
        self._out: list[Any] = []
        self._buffer = bytearray(RECEIVED_BYTES)
        self._writes = False
        self._waits = False

    def send(self, command: Command) -> None:
        """Have this sent by the next `flush`."""
        if not self.sent:
            self.heard_at = monotonic()  # it owed nothing
        if command.asks:
            self.sent.append(Command(-1, [], ignored))
            self._out.append(_packed((b"ASKING",)))
        self.sent.append(command)
        self._out.append(_packed(tuple(command.words)))

    def flush(self) -> None:
        """Send what there is room for."""
        out = self._out
        while out and self._socket is not None:
            if len(out) > 1 and len(out[0]) < JOINED_BYTES_MAX:
                out[:] = [b"".join(out)]
            data = out[0]
            try:
                count = self._socket.send(data) if self._context is not None else self._socket.send(data, socket.MSG_DONTWAIT)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                break
            except OSError as error:
                self.close(str(error))
                return
            if count == len(data):
                del out[0]
            else:
                out[0] = memoryview(data)[count:]
        self._watch(writes=bool(out))

    @property
    def can_wait(self) -> bool:
        """Whether `receive` may wait."""
        return self.state is State.READY and not self._out and self._waits

    def look(self) -> list[Any] | None:
        """The answers that have come, if any have, or nothing more can."""
        return self.receive(wait=False) or (None if self._socket is not None else [])

    def receive(self, *, wait: bool = True) -> list[Any]:
        """The answers that have come, or come within the time that it may wait. Closes itself at the end of the connection."""
        flags = () if self._context is not None else (0, 0 if wait else socket.MSG_DONTWAIT)
        while self._socket is not None:
            try:
                count = self._socket.recv_into(self._buffer, *flags)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError as error:
                self.close(str(error))
                break
            if not count:
                self.close("it ended the connection")
                break
            self._reader.feed(cast(bytes, self._buffer), 0, count)
            if count < RECEIVED_BYTES and self._context is None:
                break
            flags = () if self._context is not None else (0, socket.MSG_DONTWAIT)
        answers: list[Any] = []
        try:
            while (answer := self._reader.gets()) is not False:
                answers.append(answer)
        except hiredis.ProtocolError as error:
            self.close(f"it does not speak Redis' protocol: {error}")
        if answers:
            self.heard_at = monotonic()
        return answers

    def go_on(self) -> None:
        """Go on connecting, as far as that can be done now."""
        try:
            if self.state is State.RESOLVING:
                self._resolve()
            if self.state is State.CONNECTING:
                self._connected()
            if self.state is State.SHAKING_HANDS:
                self._shake_hands()
        except (OSError, ValueError) as error:
            self.close(getattr(error, "strerror", None) or str(error))

    def close(self, trouble: str = "") -> None:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
        self._out.clear()
        self.trouble = self.trouble or trouble
        self.state = State.CLOSED

    def leave(self) -> None:
        """In a forked child: the connection goes on without this process."""
        if self._socket is not None:
            socket.socket.close(self._socket)
            self._socket = None
        self.state = State.CLOSED

    def _look(self) -> None:
        self._found = _first(self.address)

    def _resolve(self) -> None:
        found = self._found
        if found is None:
            return
        if isinstance(found, OSError):
            raise found
        family, address = found
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
        self._writes = True
        self._socket.connect_ex(address)
        self.state = State.CONNECTING

    def _connected(self) -> None:
        failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
        try:
            self._socket.getpeername()
        except OSError:  # not yet
            return
        if self._context is None:
            self._greet()
            return
        self._selector.unregister(self._socket)
        self._socket = self._context.wrap_socket(
            self._socket, server_hostname=self.address[0], do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self._selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
        self.state = State.SHAKING_HANDS

    def _shake_hands(self) -> None:
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._watch(writes=False)
        except ssl.SSLWantWriteError:
            self._watch(writes=True)
        else:
            self._greet()

    def _greet(self) -> None:
        target = self._target
        greeting: list[list[bytes]] = []
        if target.password:
            user = [target.user.encode()] if target.user else []
            greeting.append([b"AUTH", *user, target.password.encode()])
        if target.database:
            greeting.append([b"SELECT", str(target.database).encode()])
        if self._context is None and self._wait_seconds:  # its thread waits in `recv`: one call of the system less
            seconds, part = divmod(self._wait_seconds, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIME.pack(int(seconds), int(part * 1e6)))
            self._socket.setblocking(True)
            self._waits = True
        self.state = State.GREETING if greeting else State.READY
        for words in greeting:
            self.send(Command(-1, words, ignored))
        self.flush()

    def _watch(self, *, writes: bool) -> None:
        if writes != self._writes and self._socket is not None:
            self._writes = writes
            self._selector.modify(self._socket, selectors.EVENT_READ | (selectors.EVENT_WRITE if writes else 0), self)
