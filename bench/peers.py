"""What users would pick instead, each set up as its own documentation advises, and the physical limit.

A peer is a context manager that starts a private instance and gives a mapping with `get(key)` and `put(key, value)`. One whose
package or server is not installed raises Missing, which says what to install.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import holdall
from holdall.service.settings import Sync


class Missing(Exception):
    """This peer cannot take part here; the message says what to install."""


class Store(NamedTuple):
    """How one client reads and writes at a peer."""

    get: Callable[[str], Any]
    put: Callable[[str, Any], Any]


Peer = Callable[[], Any]
"""Gives a context manager of a Store."""


def holdall_dict(sync: Sync) -> Peer:
    """This project, through its broker."""

    @contextmanager
    def opened() -> Generator[Store, None, None]:
        with holdall.LocalService(sync=sync):
            d = holdall.Dict.from_name("bench", create_if_missing=True).hydrate()
            yield Store(d.get, d.put)

    return opened


def redis(appendfsync: str) -> Peer:
    """Redis through redis-py with hiredis, on a Unix socket, values pickled as ours are."""

    @contextmanager
    def opened() -> Generator[Store, None, None]:
        if shutil.which("redis-server") is None:
            raise Missing("apt-get install redis-server")
        if find_spec("redis") is None:
            raise Missing("pip install 'redis[hiredis]'")
        import pickle

        with ExitStack() as stack:
            client = stack.enter_context(_redis_server(appendfsync))

            def get(key: str) -> Any:
                return pickle.loads(client.get(key))

            def put(key: str, value: Any) -> None:
                client.set(key, pickle.dumps(value, 5))

            yield Store(get, put)

    return opened


@contextmanager
def _redis_server(appendfsync: str) -> Generator[Any, None, None]:
    redis: Any = import_module("redis")
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        socket = str(Path(directory) / "socket")
        options = ["--port", "0", "--unixsocket", socket, "--dir", directory, "--save", "", "--daemonize", "no"]
        durable = ["--appendonly", "yes", "--appendfsync", appendfsync]
        server = subprocess.Popen(["redis-server", *options, *durable], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if "Ready to accept connections" in line or "ready to accept connections" in line:
                    break
            else:
                raise Missing(f"a redis-server that starts: this one ended with status {server.wait()}")
            with redis.Redis(unix_socket_path=socket) as client:
                yield client
        finally:
            server.terminate()
            server.communicate()


@contextmanager
def manager_dict() -> Generator[Store, None, None]:
    """`multiprocessing.Manager().dict()`: no durability."""
    with get_context("spawn").Manager() as manager:
        shared = manager.dict()
        yield Store(shared.get, shared.__setitem__)


@contextmanager
def diskcache() -> Generator[Store, None, None]:
    """diskcache.Cache: SQLite in the caller's own process."""
    if find_spec("diskcache") is None:
        raise Missing("pip install diskcache")
    cache_of: Any = import_module("diskcache").Cache
    with tempfile.TemporaryDirectory(prefix="diskcache-") as directory, cache_of(directory) as cache:
        yield Store(cache.get, cache.set)


@contextmanager
def bare_zmq() -> Generator[Store, None, None]:
    """The limit: a round trip of 200 bytes to a ROUTER in another process that does nothing but send them back."""
    import zmq

    with tempfile.TemporaryDirectory(prefix="zmq-") as directory:
        url = f"ipc://{directory}/echo"
        context = get_context("spawn")
        ready, stop = context.Event(), context.Event()
        server = context.Process(target=_echo, args=(url, ready, stop), daemon=True)
        server.start()
        ready.wait(30)
        with zmq.Context() as zmq_context:
            socket: Any = zmq_context.socket(zmq.DEALER)
            socket.connect(url)

            def round_trip(*_: Any) -> None:
                socket.send(bytes(200))
                socket.recv()

            yield Store(round_trip, round_trip)
            stop.set()
            round_trip()
            socket.close()
        server.join(10)


def _echo(url: str, ready: threading.Event, stop: threading.Event) -> None:
    import zmq

    with zmq.Context() as context:
        socket: Any = context.socket(zmq.ROUTER)
        socket.bind(url)
        ready.set()
        while not stop.is_set():
            route = socket.recv()
            socket.send(route, zmq.SNDMORE)
            socket.send(socket.recv())
        socket.close()
