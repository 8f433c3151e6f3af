"""The broker's process: a ROUTER for clients, a ROUTER for workers, one loop around the core."""

from __future__ import annotations

import logging
import time
from typing import Any

import zmq

from holdall import frames, protocol
from holdall.broker.core import Broker, Send
from holdall.service.address import listen
from holdall.service.child import EXIT_IDLE, STUCK, Child
from holdall.service.door import Door
from holdall.service.settings import BrokerSettings
from holdall.service.unsent import Unsent
from holdall.service.watch import Watch

MESSAGES_PER_TURN = 200
"""Messages taken from one side before the other has its turn."""
EXPIRE_SECONDS = 0.5

log = logging.getLogger("holdall.broker")


def serve(settings: BrokerSettings, child: Child) -> int:
    """Relay until the process is to end. Returns its exit status."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as front, context.socket(zmq.ROUTER) as back:
        for socket, urls in ((front, settings.listen), (back, [settings.workers_listen])):
            socket.linger = 500
            socket.maxmsgsize = protocol.FRAME_BYTES_MAX
            socket.router_mandatory = True
            socket.zap_domain = b"holdall"
            for url in urls:
                listen(socket, url)
        child.ready()
        return _relay(Broker(settings.stuck_seconds), settings, child, front, back)


def _relay(broker: Broker, settings: BrokerSettings, child: Child, front: Any, back: Any) -> int:
    watch = Watch(child, Door(*settings.listen))
    for socket in (front, back):
        watch.add(socket.fd, socket)
        watch.touch(socket)
    send = Sender(broker, front, back).send
    broker.used_at = time.monotonic()
    expire_due = 0.0
    now = time.monotonic()
    while True:
        ready = watch.wait(now, expire_due)
        if watch.is_over:
            return 0
        now = time.monotonic()
        for socket, decide, small in ((back, broker.from_worker, 3), (front, broker.from_client, 2)):
            if socket not in ready:
                continue
            for _ in range(MESSAGES_PER_TURN):
                if not frames.waits(socket):
                    break
                parts = frames.receive(socket, small)
                watch.touch(front)
                watch.touch(back)
                send(decide(parts, now), now)
        if now >= expire_due:
            expire_due = now + EXPIRE_SECONDS
            watch.touch(front)
            watch.touch(back)
            send(broker.expire(now), now)
            while broker.stuck:
                child.say(f"{STUCK}worker {broker.stuck.pop()}")
            if settings.idle_seconds is not None and now - broker.used_at > settings.idle_seconds:
                log.info("no request for %g s", settings.idle_seconds)
                return EXIT_IDLE


class Sender:
    """Sends what the broker decides. A message that its worker does not take is decided upon again."""

    def __init__(self, broker: Broker, front: Any, back: Any) -> None:
        self._broker = broker
        self._front = front
        self._back = back
        self._unsent = Unsent()

    def send(self, sends: list[Send], now: float) -> None:
        """Send these messages."""
        for to_worker, parts in sends:
            try:
                if to_worker:
                    frames.send(self._back, parts)
                elif not self._unsent.send(self._front, parts):
                    self._broker.counts["replies to clients that do not read"] += 1
            except zmq.ZMQError:
                if to_worker:
                    self.send(self._broker.unreachable(parts, now), now)
                else:
                    self._broker.counts["replies to clients that are gone"] += 1
