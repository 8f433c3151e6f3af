"""The broker's process: two ROUTERs, one poll, one loop around the core: take what has come, have it decided, send it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from holdall import sockets
from holdall.framing import path_of
from holdall.process.admission import Admission
from holdall.process.child import EXIT_IDLE, EXIT_LOST, STUCK, Child
from holdall.process.config import BrokerSettings
from holdall.process.listen import make_private
from holdall.process.poller import Poller, SystemPoller

from .core import Broker, Send
from .front import Front
from .router import Delivery, Router

log = logging.getLogger("holdall.broker")


class Side(Protocol):
    """One of the broker's two sides: see `Router`."""

    def take(self) -> Iterator[list[Any]]: ...

    def send(self, frames: list[Any]) -> Delivery: ...

    @property
    def is_reachable(self) -> bool: ...


class FrontSide(Side, Protocol):
    """The one for clients: see `Front`."""

    def admit(self) -> None: ...

    def check(self, now: float) -> list[bytes]: ...


class Loop:
    """The broker's loop, from `run` until its process is to end. `say` tells the parent something."""

    def __init__(
        self,
        broker: Broker,
        poller: Poller,
        front: FrontSide,
        back: Side,
        say: Callable[[str], object],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._poller = poller
        self._front = front
        self._back = back
        self._say = say
        self._now = now

    def run(self) -> int:
        broker, now = self._broker, self._now()
        while True:
            due = broker.due
            ready = self._poller.wait(now, due)
            if self._poller.is_over:
                return 0
            now = self._now()
            self._front.admit()
            was_holding = broker.is_holding
            if self._back in ready and self._read(self._back, broker.from_worker, now):
                self._send(broker.try_held(now), now)
            self._send(broker.timers(now), now)
            if was_holding and not broker.is_holding:
                self._poller.look_again(self._front)
            elif self._front in ready and not broker.is_holding:
                self._read(self._front, broker.from_client, now)
            while broker.stuck:
                self._say(f"{STUCK}worker {broker.stuck.pop()}")
            if now >= due and (removed := self._front.check(now)):
                broker.forget(removed)
            if now >= due and not (self._front.is_reachable and self._back.is_reachable):
                log.error("a socket of this broker was removed, or lets in whom it must not: another broker is started")
                return EXIT_LOST
            if broker.is_idle(now):
                log.info("no request came for the idle time")
                return EXIT_IDLE

    def _read(self, side: Side, decide: Callable[[list[Any], float], list[Send]], now: float) -> bool:
        """Have what has come here decided, as far as there is room for it. Returns whether anything had."""
        any_came = False
        for frames in side.take():
            any_came = True
            self._send(decide(frames, now), now)
            if side is self._front and self._broker.is_holding:
                break
        return any_came

    def _send(self, sends: list[Send], now: float) -> None:
        """Send these. What has no room is held; what is for a worker that is gone is decided upon again."""
        for to_worker, frames in sends:
            if not to_worker:
                if self._front.send(frames) is not Delivery.SENT:
                    self._broker.counts["answers to clients that are gone or do not read"] += 1
                continue
            delivery = Delivery.FULL if self._broker.holds(frames[0]) else self._back.send(frames)
            if delivery is Delivery.FULL:
                self._broker.hold(frames, now)
            elif delivery is Delivery.GONE:
                self._send(self._broker.unreachable(frames, now), now)


def serve(settings: BrokerSettings, child: Child) -> int:
    """Relay until the process is to end. Returns its exit status."""
    broker = Broker(os.urandom(8), settings.stuck_seconds, settings.idle_seconds, time.monotonic())
    poller = SystemPoller(child, Admission(*settings.listen))
    context = sockets.new_context()
    make_private(Path(path_of(settings.workers_listen)).parent)  # it may have been removed
    back = Router(sockets.back_router(context), [settings.workers_listen], poller, small=3)
    front = Front(context, settings.listen, settings.keys, poller)
    child.ready()
    try:
        with closing(back), closing(front):
            return Loop(broker, poller, front, back, child.say).run()
    finally:
        context.term()
