"""The broker's process: clients and workers on streams, clients of other machines on a ROUTER, one loop around the core."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from holdall.broker.core import Broker, Decide, Send
from holdall.service.address import listening_socket
from holdall.service.child import EXIT_IDLE, STUCK, Child
from holdall.service.door import Door
from holdall.service.peers import Peer, Peers
from holdall.service.settings import BrokerSettings
from holdall.service.watch import Watch
from holdall.stream import without_route

if TYPE_CHECKING:
    from holdall.broker.front import Front
    from holdall.protocol import Buffer

EXPIRE_SECONDS = 0.5

Arrived = tuple[Decide, list[Any]]
"""A message, and whose it is to decide."""

log = logging.getLogger("holdall.broker")


def serve(settings: BrokerSettings, child: Child) -> int:
    """Relay until the process is to end. Returns its exit status."""
    loop = Loop(settings, child)
    child.ready()
    try:
        return loop.run()
    finally:
        loop.close()


class Loop:
    """The broker's loop: take what has come, decide where it goes, send it there."""

    def __init__(self, settings: BrokerSettings, child: Child) -> None:
        self._settings = settings
        self._child = child
        self._broker = Broker(settings.stuck_seconds)
        self._watch = watch = Watch(child, Door(*settings.listen))
        near = [url for url in settings.listen if url.startswith("ipc://")]
        far = [url for url in settings.listen if url not in near]
        self._workers = Peers([listening_socket(settings.workers_listen)], watch, self._from_worker, always=True, routed=True)
        self._clients = Peers([listening_socket(url) for url in near], watch, self._from_client)
        self._front = self._front_at(far) if far else None

    def run(self) -> int:
        """Until the process is to end, or nobody has used it for its idle time. Returns the exit status."""
        expire_due = 0.0
        now = self._broker.used_at = time.monotonic()
        while True:
            sources = self._watch.wait(now, expire_due)
            if self._watch.is_over:
                return 0
            now = time.monotonic()
            for source in sources:
                for decide, frames in source.take()[0]:
                    self._send(decide(frames, now), now)
            if now >= expire_due:
                expire_due = now + EXPIRE_SECONDS
                self._send(self._broker.expire(now), now)
                while self._broker.stuck:
                    self._child.say(f"{STUCK}worker {self._broker.stuck.pop()}")
                idle_seconds = self._settings.idle_seconds
                if idle_seconds is not None and now - self._broker.used_at > idle_seconds:
                    log.info("no request for %g s", idle_seconds)
                    return EXIT_IDLE

    def close(self) -> None:
        """Say what is left to say to clients of other machines; what is left for others they ask for again."""
        if self._front is not None:
            self._front.close()

    def _front_at(self, urls: list[str]) -> Front:
        from holdall.broker.front import Front  # ZeroMQ takes longer to load than all the rest

        return Front(urls, self._watch, self._broker.from_client)

    def _from_client(self, _peer: Peer[Any], name: bytes, head: bytes, payload: Buffer | None) -> Arrived:
        return self._broker.from_client, [name, head] if payload is None else [name, head, payload]

    def _from_worker(self, _peer: Peer[Any], name: bytes, head: bytes, payload: Buffer | None) -> Arrived:
        route, head = without_route(head)
        return self._broker.from_worker, [name, route, head] if payload is None else [name, route, head, payload]

    def _send(self, sends: list[Send], now: float) -> None:
        """Send these messages. One that its worker does not take is decided upon again."""
        for to_worker, frames in sends:
            name = frames[0]
            if not to_worker:
                client = self._clients.named(name) or self._front
                if client is None or not client.send(name, frames[1:]):
                    self._broker.counts["answers to clients that are gone or do not read"] += 1
                continue
            worker = self._workers.named(name)
            if worker is None or not worker.send(frames[1], frames[2:]):
                self._send(self._broker.unreachable(frames, now), now)
