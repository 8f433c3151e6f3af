"""A client: where the service is, and the lines to it. Any thread, any event loop, any forked child may use one at once."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections import deque
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any

from holdall import protocol, settings
from holdall.address import SCHEME, connected, path_of
from holdall.bodies import Roster, RosterWorker, decode
from holdall.client.ask import Ask, Operation, R
from holdall.client.blocking import BlockingLine
from holdall.client.channel import Channel
from holdall.client.near import Near
from holdall.errors import ConnectionError, InvalidError

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from holdall.client.awaiting import AwaitingLine
    from holdall.client.dealer import Dealer

CONNECT_SECONDS = 5.0
"""How long the first contact with a service may take: no service at all is noticed sooner than a slow answer."""
LINES_IDLE_MAX = 64
"""Lines kept for later calls; threads beyond that make and close their own."""
LANES_MAX = 128
"""A line that begins while so many lanes are open has none: each takes a file descriptor here and at a worker."""

_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_defaults: dict[str, Client] = {}
_defaults_lock = threading.Lock()
_inherited: list[object] = []
"""What a forked child inherited and must neither use nor close."""


class Client:
    """A connection to a service.

    Args:
        url: `tcp://HOST:PORT` or `ipc:///PATH`; HOLDALL_URL by default. With neither: this user's local service, which
            the first call starts if it does not run.
        timeout: how many seconds a call may take before it ends in an error.
        lanes: whether to reach workers of this machine straight as well, where they answer; False: everything goes through
            the broker. HOLDALL_LANES (on or off) by default, and else True.

    Raises:
        InvalidError: `url` is no such URL, `timeout` is not above zero, or HOLDALL_LANES is neither on nor off.

    >>> with Client() as client:
    ...     d = Dict.from_name("kv", create_if_missing=True, client=client)
    ...     d["key"] = "value"
    """

    def __init__(
        self, url: str | None = None, *, timeout: float = settings.DEFAULT_TIMEOUT_SECONDS, lanes: bool | None = None
    ) -> None:
        if not isinstance(timeout, (int, float)) or not timeout > 0:
            raise InvalidError(f"timeout must be above zero seconds, not {timeout!r}")
        if not isinstance(url, (str, type(None))):
            raise InvalidError(f"Invalid URL: use tcp://HOST:PORT or ipc:///PATH, not {url!r}")
        self.timeout = timeout
        url = url or os.environ.get("HOLDALL_URL")
        self._url = settings.url(url) if url else None
        self._data: Path | None = None if url else settings.data_directory()
        self.is_closed = False
        """Whether it was closed."""
        self.has_lanes = settings.lanes(lanes) and (self._url is None or self._url.startswith("ipc://"))
        """Whether it may reach workers straight, and their files: those of a service on this machine."""
        self.near = Near(is_possible=self.has_lanes)
        """The files of workers on this machine."""
        self._roster: Roster | None = None
        self._context: Any = None  # of ZeroMQ, once it is needed
        self._reset()
        _clients.add(self)

    @classmethod
    def from_env(cls, fallback_url: str | None = None) -> Client:
        """The client of calls that are given none: for HOLDALL_URL, else `fallback_url`, else this user's local service.

        Raises:
            InvalidError: HOLDALL_URL is no URL.

        >>> Client.from_env() is Client.from_env()
        True
        """
        url = os.environ.get("HOLDALL_URL") or fallback_url
        key = url or f"data {settings.data_directory()}"
        client = _defaults.get(key)
        if client is None:
            with _defaults_lock:
                client = _defaults.get(key) or _defaults.setdefault(key, cls(url))
        return client

    @property
    def is_local(self) -> bool:
        """Whether this client starts its service when it does not run."""
        return self._data is not None

    @property
    def address(self) -> str:
        """The URL this client connects to.

        >>> Client("tcp://localhost").address
        'tcp://localhost:4255'
        """
        return self._url if self._data is None else settings.service_url(self._data)  # type: ignore[return-value]

    def run(self, operation: Operation[R]) -> R:
        """Carry out an operation on this thread."""
        line = self.take_line()
        deadline = monotonic() + self.timeout
        try:
            if self._roster is None:
                timeout = min(self.timeout, CONNECT_SECONDS)
                self._roster = line.run(_fetch_roster(self.address), timeout, monotonic() + timeout)
            return line.run(operation, self.timeout, deadline)
        finally:
            self.put_back(line)

    def take_line(self) -> BlockingLine:
        """A line for one call at a time, until it is put back."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._new_line()

    def put_back(self, line: BlockingLine) -> None:
        """This line is for others again."""
        if self.is_closed or len(self._idle) >= LINES_IDLE_MAX:
            self._give_up(line)
        else:
            self._idle.append(line)

    async def run_awaiting(self, operation: Operation[R]) -> R:
        """Carry out an operation on this task's event loop."""
        deadline = monotonic() + self.timeout
        line = self.line_here() or await self.new_line_here()
        return await line.run(operation, self.timeout, deadline)

    def line_here(self) -> AwaitingLine | None:
        """The line of the event loop that runs on this thread, once it has one and the workers are known."""
        if self._roster is None or self._running_loop is None:
            return None
        return self._loops.get(self._running_loop())

    async def new_line_here(self) -> AwaitingLine:
        """The line of this task's event loop, made if it has none, and the workers known to it."""
        line = await self._awaiting_line()
        if self._roster is None:
            timeout = min(self.timeout, CONNECT_SECONDS)
            self._roster = await line.run(_fetch_roster(self.address), timeout, monotonic() + timeout)
        return line

    def revive(self) -> None:
        """Start the local service if it does not run: an answer is overdue."""
        if self._data is not None:
            from holdall.service.local import ensure_running

            ensure_running(self._data)

    @property
    def roster(self) -> Roster:
        """The workers of the service; known to every operation, because the drivers fetch it first."""
        assert self._roster is not None
        return self._roster

    @property
    def knows_workers(self) -> bool:
        """Whether there is a roster yet."""
        return self._roster is not None

    def lane_address(self, worker: RosterWorker) -> str | None:
        """Where this worker may have a lane for us, if anywhere: whether it is that worker is still to be asked."""
        if not self.has_lanes or len(self._streams) >= LANES_MAX:
            return None
        return next((each for each in worker.addresses if each.startswith(SCHEME) and os.path.exists(path_of(each))), None)

    def new_channel(self) -> Channel:
        """A new session."""
        return Channel(os.urandom(16), Random())

    def new_dealer(self, wait_seconds: float = 0.0) -> Dealer:
        """A socket that is connected to the broker, or will be."""
        from holdall import sockets  # ZeroMQ takes longer to load than all the rest: an import need not wait for it
        from holdall.client.dealer import Dealer

        with self._lock:
            self._refuse_if_closed()
            if self._context is None:
                self._context = sockets.new_context()
            dealer: Dealer | None = None
            try:
                dealer = Dealer(self._context, self.address, wait_seconds)
                self._dealers.add(dealer)
            except BaseException:  # Ctrl-C: a socket that nobody knows of would keep the context from its end
                if dealer is not None:
                    dealer.close()
                    self._dealers.discard(dealer)
                raise
        return dealer

    def new_stream(self, address: str) -> socket.socket | None:
        """A stream to the worker that listens at this address, if it can be reached there: the broker can in any case."""
        try:
            stream = connected(address)
        except OSError:
            return None
        with self._lock:
            if self.is_closed:
                stream.close()
            self._refuse_if_closed()
            self._streams.add(stream)
        return stream

    def _refuse_if_closed(self) -> None:
        if self.is_closed:
            raise ConnectionError(f"this client of {self.address} is closed: make another one")

    def close(self) -> None:
        """Close all connections. A call that is under way in another thread ends first; later ones raise ConnectionError.

        >>> client = Client()
        >>> client.close()
        """
        with self._lock:
            self.is_closed = True
        for loop in list(self._loops):
            self._forget_loop(loop)
        while self._idle:
            self._give_up(self._idle.pop())
        self._end_context()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not sys.is_finalizing() and hasattr(self, "_idle"):
            self.close()

    def __repr__(self) -> str:
        return f"Client({self.address!r}, timeout={self.timeout})"

    def _reset(self) -> None:
        """No line, no socket: at the start, and in a forked child."""
        self._lock = threading.RLock()  # a signal handler may call while its own thread is in here
        self._context = None
        self._dealers: set[Dealer] = set()
        self._streams: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._idle: deque[BlockingLine] = deque()
        self._loops: dict[asyncio.AbstractEventLoop, AwaitingLine] = {}
        self._running_loop: Callable[[], Any] | None = None  # that of asyncio, once it is needed

    def inherit(self) -> None:
        """In a forked child: leave everything of the parent alone, and begin anew."""
        _inherited.append((self._lock, self._context, self._idle, self._loops))
        for stream in self._streams:
            stream.close()  # of the child's copy: the parent's goes on
        self._reset()

    def _new_line(self) -> BlockingLine:
        if self._roster is None:
            self.revive()
        return BlockingLine(self)

    async def _awaiting_line(self) -> AwaitingLine:
        import asyncio

        self._running_loop = asyncio._get_running_loop
        loop = asyncio.get_running_loop()
        line = self._loops.get(loop)
        if line is None:
            from holdall.client.awaiting import AwaitingLine

            if self._roster is None and self.is_local:
                await loop.run_in_executor(None, self.revive)
            for other in [each for each in list(self._loops) if each.is_closed()]:
                self._forget_loop(other)
            line = self._loops.get(loop) or self._loops.setdefault(loop, AwaitingLine(self, loop))
        return line

    def _forget_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        line = self._loops.pop(loop, None)
        if line is not None:
            self._give_up(line)

    def _give_up(self, line: BlockingLine | AwaitingLine) -> None:
        line.close()
        self._dealers.discard(line.broker)
        if self.is_closed:
            self._end_context()

    def _end_context(self) -> None:
        """End the context when its last socket is closed: before that, `term` would wait for it."""
        with self._lock:
            if self._context is not None and not self._dealers and not self._context.closed:
                self._context.term()


def _fetch_roster(address: str) -> Operation[Roster]:
    reply = yield Ask(protocol.ROSTER, 0, "reach", f"the service at {address}")
    if reply.status != protocol.OK:
        raise ConnectionError(f"cannot reach the service at {address}: {bytes(reply.payload).decode('utf-8', 'replace')}")
    return decode(Roster, reply.payload)


def close_default(url: str) -> None:
    """Close the client that `from_env` made for this URL."""
    with _defaults_lock:
        client = _defaults.pop(url, None)
    if client is not None:
        client.close()


def _after_fork_in_child() -> None:
    global _defaults_lock
    _defaults_lock = threading.Lock()
    for client in list(_clients):
        client.inherit()


def _close_all() -> None:
    for client in list(_clients):
        client.close()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork_in_child)
