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
    watch = Watch(child, Door(*settings.listen), front, back)
    broker.used_at = time.monotonic()
    expire_due = 0.0
    while True:
        ready = watch.wait(EXPIRE_SECONDS * 1000)
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
                _send(broker, decide(parts, now), now, front, back)
        if now >= expire_due:
            expire_due = now + EXPIRE_SECONDS
            watch.touch(front)
            watch.touch(back)
            _send(broker, broker.expire(now), now, front, back)
            while broker.stuck:
                child.say(f"{STUCK}worker {broker.stuck.pop()}")
            if settings.idle_seconds is not None and now - broker.used_at > settings.idle_seconds:
                log.info("no request for %g s", settings.idle_seconds)
                return EXIT_IDLE


def _send(broker: Broker, sends: list[Send], now: float, front: Any, back: Any) -> None:
    for to_worker, parts in sends:
        try:
            frames.send(back if to_worker else front, parts)
        except zmq.ZMQError:
            if to_worker:
                _send(broker, broker.unreachable(parts, now), now, front, back)
            else:
                broker.counts["replies to clients that are gone or do not read"] += 1
