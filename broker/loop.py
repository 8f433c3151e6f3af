"""The broker's process: two ROUTERs, one poll, one loop around the core."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from typing import Any

from holdall import sockets
from holdall.broker.core import Broker, Send
from holdall.broker.router import Outcome, Router
from holdall.service.child import EXIT_IDLE, STUCK, Child
from holdall.service.door import Door
from holdall.service.settings import BrokerSettings
from holdall.service.watch import Watch

EXPIRE_SECONDS = 0.5
HELD_SECONDS = 0.01
"""How soon it is tried again at the latest whether a worker has room: of large messages ZeroMQ does not tell."""

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
    """The broker's loop: take what has come, decide where it goes, send it there.

    While a worker has no room, what is for it is held, and clients are not read: ZeroMQ reads them in turns, so each of them
    has its share of what the worker can do. Workers are read all the time, so that they go on.
    """

    def __init__(self, settings: BrokerSettings, child: Child) -> None:
        self._settings = settings
        self._child = child
        self._broker = Broker(os.urandom(8), settings.stuck_seconds)
        self._watch = Watch(child, Door(*settings.listen))
        self._held: dict[bytes, deque[list[Any]]] = {}  # by the worker's route
        self._context = sockets.new_context()
        back, front = sockets.back_router(self._context), sockets.front_router(self._context)
        self._back = Router(back, [settings.workers_listen], self._watch, self._broker.from_worker, small=3)
        self._front = Router(front, settings.listen, self._watch, self._broker.from_client, small=2)

    def run(self) -> int:
        """Until the process is to end, or nobody has used it for its idle time. Returns the exit status."""
        expire_due = held_due = 0.0
        now = self._broker.used_at = time.monotonic()
        while True:
            ready = self._watch.wait(now, min(expire_due, held_due) if self._held else expire_due)
            if self._watch.is_over:
                return 0
            now = time.monotonic()
            answered = self._back in ready and self._read(self._back, now)
            if self._held and (answered or now >= held_due):
                held_due = now + HELD_SECONDS
                self._send_held(now)
            if self._front in ready and not self._held:
                self._read(self._front, now)
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

    def _read(self, router: Router, now: float) -> bool:
        """Decide on what has come here, as far as there is room for it. Returns whether anything had."""
        any_came = False
        for decide, frames in router.take():
            any_came = True
            self._send(decide(frames, now), now)
            if self._held and router is self._front:
                break
        return any_came

    def _send(self, sends: list[Send], now: float) -> None:
        """Send these messages. One whose worker is gone is decided upon again."""
        for to_worker, frames in sends:
            if not to_worker:
                if self._front.send(frames) is not Outcome.SENT:
                    self._broker.counts["answers to clients that are gone or do not read"] += 1
                continue
            held = self._held.get(frames[0])
            outcome = Outcome.FULL if held is not None else self._back.send(frames)
            if outcome is Outcome.FULL:
                self._held.setdefault(frames[0], deque()).append(frames)
            elif outcome is Outcome.GONE:
                self._send(self._broker.unreachable(frames, now), now)

    def _send_held(self, now: float) -> None:
        """Send what is held, as far as there is room for it now."""
        for route, held in list(self._held.items()):
            outcome = Outcome.SENT
            while held and outcome is Outcome.SENT:
                outcome = self._back.send(held[0])
                if outcome is Outcome.SENT:
                    held.popleft()
            if not held or outcome is Outcome.GONE or not self._broker.is_present(route):
                del self._held[route]
                for frames in held:
                    self._send(self._broker.unreachable(frames, now), now)
        if not self._held:
            self._watch.touch(self._front)
