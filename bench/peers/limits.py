"""What cannot be undercut: the transport without a store, or without any decision, and the store without a transport."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from random import choice
from time import monotonic
from types import SimpleNamespace
from typing import Any

import zmq

from holdall import protocol, sockets
from holdall.bench.peers import server
from holdall.bench.peers.peer import Client, Instance, Peer, require_package
from holdall.broker.router import Router
from holdall.client.connection.dealer import Dealer
from holdall.client.connection.driver import CHECK_SECONDS
from holdall.keys import encode
from holdall.process.admission import Admission
from holdall.process.poller import SystemPoller
from holdall.process.slices import ask_for_short_slices
from holdall.protocol import Reply, Request

VALUE = bytes(100)
READY_SECONDS_MAX = 30
IDLE_SECONDS = 0.5
RELAYED_WORKERS = 2
"""As many as a service has by default where CPUs are few: one that is asked every other time falls asleep in between."""


def get_bytes() -> tuple[int, int]:
    """How many bytes the request and the reply of our own get have, for a value of 100 bytes."""
    key = encode("key-500").data
    request = Request(protocol.GET, 0, 0, protocol.NO_SESSION, 0, 0, protocol.NO_DICT, key, b"")
    reply = Reply(protocol.OK, 0, 0, pickle.dumps(VALUE, 5))
    return len(protocol.pack_request(request)[0]), len(protocol.pack_reply(reply)[0])


@dataclass(frozen=True)
class EchoConnector:
    """A DEALER of its own for each client, in a context of its own."""

    url: str
    request_bytes: int

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """One frame there, one back, whatever is asked."""
        with zmq.Context() as context:
            socket: Any = context.socket(zmq.DEALER)
            socket.linger = 0
            socket.connect(self.url)
            request = bytes(self.request_bytes)
            send, receive = socket.send, socket.recv

            def round_trip(*_: Any) -> Any:
                send(request)
                return receive()

            yield Client(round_trip, round_trip)
            socket.close()


@contextmanager
def _start_echo() -> Generator[Instance, None, None]:
    request_bytes, reply_bytes = get_bytes()
    context = get_context("spawn")
    with server.folder() as place:
        url = f"ipc://{place}/echo"
        ready = context.Event()
        process = context.Process(target=_answer, args=(url, reply_bytes, ready), daemon=True)
        process.start()
        ready.wait(READY_SECONDS_MAX)
        assert process.pid is not None
        try:
            yield Instance(EchoConnector(url, request_bytes), (process.pid,))
        finally:
            process.terminate()
            process.join()


def _answer(url: str, reply_bytes: int, ready: threading.Event) -> None:
    socket: Any = zmq.Context().socket(zmq.ROUTER)
    socket.bind(url)
    ready.set()
    reply = bytes(reply_bytes)
    while True:
        route = socket.recv()
        socket.recv()
        socket.send(route, zmq.SNDMORE)
        socket.send(reply)


def zmq_echo() -> Peer:
    """A ROUTER in Python that answers frames of the sizes of our own get, and does nothing."""
    return Peer("pyzmq echo", _start_echo, offers=("mixed",))


@dataclass(frozen=True)
class RelayConnector:
    """The DEALER of a real client for each client: sockets, waits and looks are those of a relayed call."""

    url: str
    request_bytes: int

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """One frame there, one back, whatever is asked."""
        context = sockets.new_context()
        dealer = Dealer(context, lambda: self.url, CHECK_SECONDS)
        request: list[protocol.Buffer] = [bytes(self.request_bytes)]
        while not dealer.send(request):  # until it is connected
            dealer.receive(wait=True)
        while dealer.has_come_back() or not dealer.receive(wait=True):
            pass

        def round_trip(*_: Any) -> Any:
            dealer.send(request)
            while not (received := dealer.receive(wait=True)):
                pass
            return received

        yield Client(round_trip, round_trip)
        dealer.close()
        context.term()


@contextmanager
def _start_relay() -> Generator[Instance, None, None]:
    request_bytes, reply_bytes = get_bytes()
    context = get_context("spawn")
    with server.folder() as place:
        front, back = f"ipc://{place}/front", f"ipc://{place}/back"
        ready = [context.Event() for _ in range(RELAYED_WORKERS + 1)]
        processes = [
            context.Process(target=_relay, args=(front, back, ready[0]), daemon=True),
            *(context.Process(target=_answer_relayed, args=(back, reply_bytes, each), daemon=True) for each in ready[1:]),
        ]
        for process, event in zip(processes, ready, strict=True):
            process.start()
            event.wait(READY_SECONDS_MAX)
        try:
            yield Instance(RelayConnector(front, request_bytes), tuple(each.pid for each in processes if each.pid))
        finally:
            for process in processes:
                process.terminate()
                process.join()


def _watch() -> SystemPoller:
    """The poller of a real broker and worker, with its looks, in a process that is ended from outside."""
    child: Any = SimpleNamespace(watched=[])
    ask_for_short_slices()
    return SystemPoller(child, Admission())


def _relay(front_url: str, back_url: str, ready: threading.Event) -> None:
    poller, context = _watch(), sockets.new_context()
    back = Router(sockets.back_router(context), [back_url], poller, small=3)
    front = Router(sockets.front_router(context), [front_url], poller, small=2)
    ready.set()
    workers: list[bytes] = []
    now = monotonic()
    while True:
        for router in poller.wait(now, now + IDLE_SECONDS):
            for frames in router.take():
                if router is front:
                    back.send([choice(workers), *frames])
                elif frames[1]:
                    front.send(frames[1:])
                else:
                    workers.append(frames[0])
        now = monotonic()


def _answer_relayed(url: str, reply_bytes: int, ready: threading.Event) -> None:
    poller, context = _watch(), sockets.new_context()
    dealer, reply = sockets.worker_dealer(context), bytes(reply_bytes)
    dealer.connect(url)
    poller.add(int(dealer.fd), dealer)
    sockets.send(dealer, [b"", b"it is there"])
    poller.look_again(dealer)
    ready.set()
    now = monotonic()
    while True:
        for _ in poller.wait(now, now + IDLE_SECONDS):
            while sockets.has_message(dealer):
                sockets.send(dealer, [sockets.receive(dealer, 2)[0], reply])
                poller.look_again(dealer)
        now = monotonic()


def zmq_relay() -> Peer:
    """DEALER, ROUTER, ROUTER, DEALER as our own relayed get has them: the same sockets, poller and looks, and no decision."""
    return Peer("bare relay", _start_relay, offers=("mixed",))


@dataclass(frozen=True)
class PlyvelConnector:
    """LevelDB in the client's own process; values are pickled."""

    directory: str
    sync: bool

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        """Its calls, and a write batch."""
        database: Any = import_module("plyvel").DB(self.directory, create_if_missing=True)
        sync = self.sync

        def get(key: str) -> Any:
            return pickle.loads(database.get(key.encode()))

        def put(key: str, value: Any) -> None:
            database.put(key.encode(), pickle.dumps(value, 5), sync=sync)

        def put_many(entries: dict[str, Any]) -> None:
            with database.write_batch(sync=sync) as batch:
                for key, value in entries.items():
                    batch.put(key.encode(), pickle.dumps(value, 5))

        yield Client(get, put, put_many=put_many)
        database.close()


@dataclass(frozen=True)
class FilesConnector:
    """A file for each value, written and fsynced under another name first."""

    directory: str

    @contextmanager
    def client(self) -> Generator[Client, None, None]:
        place = Path(self.directory)

        def get(key: str) -> bytes:
            return (place / key).read_bytes()

        def put(key: str, value: bytes) -> None:
            with (place / f"{key}.new").open("wb") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            (place / f"{key}.new").replace(place / key)

        yield Client(get, put)


@contextmanager
def _start_files() -> Generator[Instance, None, None]:
    with server.folder() as place:
        yield Instance(FilesConnector(str(place)))


def plain_files() -> Peer:
    """What the disk itself takes: no pickle, no checksum, no other process."""
    return Peer("plain files", _start_files, offers=("mixed",))


def plyvel(*, sync: bool) -> Peer:
    """No other process can open the database meanwhile. `sync`: each write is fsynced before it returns."""

    @contextmanager
    def start() -> Generator[Instance, None, None]:
        require_package("plyvel", "plyvel")
        with server.folder() as place:
            yield Instance(PlyvelConnector(str(place / "leveldb"), sync))

    return Peer("plyvel sync" if sync else "plyvel", start, offers=("mixed", "put_many"), clients_max=1)
