"""The broker's process: two ROUTERs, one poll, one loop around the core."""

from __future__ import annotations

import logging
import os
import time

from holdall import sockets
from holdall.broker.core import Broker, Send
from holdall.broker.router import Router
from holdall.service.child import EXIT_IDLE, STUCK, Child
from holdall.service.door import Door
from holdall.service.settings import BrokerSettings
from holdall.service.watch import Watch

EXPIRE_SECONDS = 0.5

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
        self._broker = Broker(os.urandom(8), settings.stuck_seconds)
        self._watch = Watch(child, Door(*settings.listen))
        self._context = sockets.new_context()
        back, front = sockets.back_router(self._context), sockets.front_router(self._context)
        self._back = Router(back, [settings.workers_listen], self._watch, self._broker.from_worker, small=3)
        self._front = Router(front, settings.listen, self._watch, self._broker.from_client, small=2)

    def run(self) -> int:
        """Until the process is to end, or nobody has used it for its idle time. Returns the exit status."""
        expire_due = 0.0
        now = self._broker.used_at = time.monotonic()
        while True:
            ready = self._watch.wait(now, expire_due)
            if self._watch.is_over:
                return 0
            now = time.monotonic()
            for router in ready:
                for decide, frames in router.take():
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
        """Say what is left to say; what is not taken is asked for again."""
        self._front.close()
        self._back.close()
        self._context.term()

    def _send(self, sends: list[Send], now: float) -> None:
        """Send these messages. One that its worker does not take is decided upon again."""
        for to_worker, frames in sends:
            if not to_worker:
                if not self._front.send(frames):
                    self._broker.counts["answers to clients that are gone or do not read"] += 1
            elif not self._back.send(frames):
                self._send(self._broker.unreachable(frames, now), now)
