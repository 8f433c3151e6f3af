"""A client: where the service is, and the drivers of its calls. Threads, event loops, forked children may use one at once.

Drivers are taken from the client's pool and released to it, so two calls at once never share one, whatever thread or signal
handler they come from; a program with one thread always uses the same one. An event loop has one driver for all its tasks.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import weakref
from collections import deque
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any

from holdall import protocol, settings
from holdall.bodies import Roster, decode
from holdall.client.connection.blocking import BlockingDriver
from holdall.client.connection.connector import ServiceConnector
from holdall.client.connection.query import Operation, Query, R
from holdall.client.connection.session import Session
from holdall.client.operations.refusals import error_of
from holdall.errors import ConnectionError, InvalidError

from .choice import chosen
from .twin import Offering

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from holdall.client.connection.awaiting import AwaitingDriver
    from holdall.client.connection.transport import Connector

CONTACT_SECONDS = 5.0
"""How long the first contact with a service may take: no service at all is noticed sooner than a slow answer."""
DRIVERS_IDLE_MAX = 64
"""Drivers kept for later calls; threads beyond that make and close their own."""

_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_defaults: dict[str, Client] = {}
_defaults_lock = threading.Lock()
_inherited: list[object] = []
"""What a forked child inherited and must neither use nor close."""


class Client(Offering):
    """A connection to a service.

    Args:
        url: `ipc:///PATH`, in a directory that only this user can enter; HOLDALL_URL by default. `tcp://HOST:PORT` takes a
            connection file for that URL. Without any of these: this user's local service, which the first call starts if
            it does not run.
        timeout: how many seconds a call may take before it ends in an error.
        connection: the path of a connection file, which has the URL of a service elsewhere and a key that comes in there;
            HOLDALL_CONNECTION by default. One that is still to come is waited for by the first call.
        lanes: whether to reach workers of this machine by lanes as well, where they answer; False: everything goes through
            the broker. HOLDALL_LANES (on or off) by default, and else True.

    Raises:
        InvalidError: `url` is no such URL, another one than that of the connection file, or both are set in the environment and
            differ; `timeout` is not above zero, or HOLDALL_LANES is neither on nor off.
        AuthError: `url` is one of another machine, and there is no connection file for it; others can read that file, or could
            listen at `url`: of a path, that is found out by the first call.

    >>> with Client() as client:
    ...     d = Dict.from_name("kv", create_if_missing=True, client=client)
    ...     d["key"] = "value"
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: float = settings.DEFAULT_TIMEOUT_SECONDS,
        lanes: bool | None = None,
        connection: str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(timeout, (int, float)) or not timeout > 0:
            raise InvalidError(f"timeout must be above zero seconds, not {timeout!r}")
        if not isinstance(url, (str, type(None))):
            raise InvalidError(f"Invalid URL: use tcp://HOST:PORT or ipc:///PATH, not {url!r}")
        self.timeout = timeout
        url, file, keys = chosen(url, connection)
        self.is_closed = False
        """Whether it was closed."""
        has_lanes = settings.lanes(lanes) and file is None
        self.passes_files = has_lanes
        """Whether workers may pass open files to it: those of a service on this machine."""
        data = None if url or file else settings.data_directory()
        self._connector: Connector
        if url is not None and settings.is_cluster(url):
            from holdall.client.redis.connector import RedisConnector

            self._connector = RedisConnector(url)
            self.passes_files = False
        else:
            self._connector = ServiceConnector(url, data, has_lanes=has_lanes, file=file, keys=keys)
        self._roster: Roster | None = None
        self._reset()
        _clients.add(self)

    @classmethod
    def from_env(cls, fallback_url: str | None = None) -> Client:
        """The client of calls that are given none: for HOLDALL_CONNECTION or HOLDALL_URL, else `fallback_url`, else this user's
        local service.

        Raises:
            InvalidError: HOLDALL_URL is no URL.
            AuthError: as with `Client`.

        >>> Client.from_env() is Client.from_env()
        True
        """
        file = os.environ.get("HOLDALL_CONNECTION")
        url = None if file else os.environ.get("HOLDALL_URL") or fallback_url
        key = file or url or f"data {settings.data_directory()}"
        client = _defaults.get(key)
        if client is None:
            with _defaults_lock:
                client = _defaults.get(key) or _defaults.setdefault(key, cls(url))
        return client

    @property
    def is_local(self) -> bool:
        """Whether this client starts its service when it does not run."""
        return self._connector.is_local

    @property
    def reads_only(self) -> bool:
        """Whether its key is a reader's: it may change nothing."""
        return self._connector.reads_only

    def finds_service(self) -> bool:
        """Whether this user's own service runs: it is not started for this."""
        return self._connector.finds_service()

    @property
    def address(self) -> str:
        """The URL this client connects to.

        >>> Client("ipc:///run/user/1000/kv").address
        'ipc:///run/user/1000/kv'
        """
        return self._connector.url

    @property
    def url(self) -> str | None:
        """The same for other processes, which may have another connection file; None while it is not known."""
        return self._connector.url if self._connector.is_known else None

    @property
    def layout_id(self) -> bytes:
        """The id of the service's data, as far as it is known; else empty."""
        return self._roster.layout_id if self._roster is not None else b""

    @property
    def roster(self) -> Roster:
        """The workers of the service; known to every operation, because it is fetched first."""
        assert self._roster is not None
        return self._roster

    def run(self, operation: Operation[R]) -> R:
        """Carry out an operation on this thread."""
        try:
            driver = self._idle.pop()
        except IndexError:
            driver = None
        driver = driver or self._new_driver()  # not in the handler: it may have an error of its own to tell
        deadline = monotonic() + self.timeout
        try:
            if self._roster is None:
                self._roster = driver.run(self._fetch_roster(), self.timeout, self._contact_deadline())
            if not driver.knows_workers:
                driver.meet(self._roster)
            return driver.run(operation, self.timeout, deadline)
        finally:
            if self.is_closed or driver.is_refused or len(self._idle) >= DRIVERS_IDLE_MAX:
                self._give_up(driver)
            else:
                self._idle.append(driver)

    def run_awaiting(self, operation: Operation[R]) -> Coroutine[Any, Any, R]:
        import asyncio  # programs that block never load it

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidError(
                "cannot await this here: `.aio` needs a running event loop of asyncio, or uvloop; under trio or curio, call "
                "the method itself in a thread: trio.to_thread.run_sync(d.get, key), curio.run_in_thread(d.get, key)"
            ) from None
        driver = self._loops.get(loop)
        if driver is None or not driver.knows_workers or driver.is_refused:
            return self._run_first(operation)
        return driver.run(operation, self.timeout, monotonic() + self.timeout)

    def close(self) -> None:
        """Close all connections. A call that is under way in another thread ends first; later ones raise ConnectionError.

        >>> client = Client()
        >>> client.close()
        """
        self.is_closed = True
        self._connector.close()
        self.disconnect()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:  # `sys` may have gone before
        if not is_finalizing() and hasattr(self, "_idle"):
            self.close()

    def __repr__(self) -> str:
        return f"Client({self.address!r}, timeout={self.timeout})"

    def disconnect(self) -> None:
        """Close the connections that no call uses; a later call makes new ones."""
        for loop in list(self._loops):
            if self.is_closed or not loop.is_running():  # else it is another thread's, and may be in the middle of a call
                self._forget_loop(loop)
        while self._idle:
            self._give_up(self._idle.pop())

    def inherit(self) -> None:
        """In a forked child: leave everything of the parent alone, and begin anew."""
        _inherited.append((self._idle, self._loops))
        self._connector.inherit()
        self._reset()

    def _reset(self) -> None:
        """No driver: at the start, and in a forked child."""
        self._idle: deque[BlockingDriver] = deque()
        self._loops: dict[asyncio.AbstractEventLoop, AwaitingDriver] = {}
        self._reviving: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[None]] = weakref.WeakKeyDictionary()

    def _new_driver(self) -> BlockingDriver:
        if self._roster is None:
            self._connector.revive()
        return BlockingDriver(self._connector, self._new_session(), self.timeout)

    async def _run_first(self, operation: Operation[R]) -> R:
        """Carry out an operation on a loop that has no driver yet, or one that does not know the workers."""
        from asyncio import get_running_loop, shield, sleep

        from holdall.client.connection.awaiting import AwaitingDriver

        loop = get_running_loop()
        if loop in self._loops and self._loops[loop].is_refused:
            self._forget_loop(loop)
        if loop not in self._loops:
            for seconds in self._connector.looks():
                await sleep(seconds)
            if self._roster is None and self.is_local:
                await shield(self._revived(loop))
            for other in [each for each in list(self._loops) if each.is_closed()]:
                self._forget_loop(other)
        driver = self._loops.get(loop)  # another task may have made it meanwhile
        if driver is None:
            driver = self._loops[loop] = AwaitingDriver(self._connector, self._new_session(), loop)
        deadline = monotonic() + self.timeout
        if not driver.knows_workers:
            if self._roster is None:
                self._roster = await driver.run(self._fetch_roster(), self.timeout, self._contact_deadline())
            if not driver.knows_workers:  # another task may have been faster
                driver.meet(self._roster)
        return await driver.run(operation, self.timeout, deadline)

    def _revived(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Done when the service is found: one thread looks for it, however many tasks wait."""
        found = self._reviving.get(loop)
        if found is None or found.done():
            found = self._reviving[loop] = loop.run_in_executor(None, self._connector.revive)
        return found

    def _new_session(self) -> Session:
        return Session(os.urandom(16), Random())

    def _fetch_roster(self) -> Operation[Roster]:
        query = Query(protocol.ROSTER, 0, "reach", f"the service at {self.address}")
        reply = yield query
        if reply.status != protocol.OK:
            raise error_of(query, reply)
        roster = decode(Roster, reply.payload)
        if self._connector.layout not in ("", roster.layout_id.hex()):
            raise ConnectionError(f"the service at {self.address} has other data than the one that the connection file is for")
        return roster

    def _contact_deadline(self) -> float:
        return monotonic() + min(self.timeout, CONTACT_SECONDS)

    def _forget_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        driver = self._loops.pop(loop, None)
        if driver is not None:
            self._give_up(driver)

    def _give_up(self, driver: BlockingDriver | AwaitingDriver) -> None:
        driver.close()
        self._connector.forget_closed()


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


def _disconnect_all() -> None:
    """At the end of the process. Callbacks that were registered before this one run after it, and may still call."""
    for client in list(_clients):
        with contextlib.suppress(Exception):  # nobody would hear of it
            client.disconnect()


atexit.register(_disconnect_all)
os.register_at_fork(after_in_child=_after_fork_in_child)
