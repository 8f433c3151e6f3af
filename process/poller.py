"""What a broker's and a worker's loop wait for: messages on their sockets, a thread's call, and the end of their process.

One system call looks at everything; `zmq.Poller` makes six for two sockets. ZeroMQ's descriptor is edge-triggered: it tells of
what came since the socket was last read or written to, so a socket that was is looked at once more before its descriptor is
believed again. It looks after the door too, when that is due.

Who was asked something a moment ago looks again and again before it sleeps: see `patience.py`.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any

from holdall import processors

from .admission import Door
from .child import Child
from .patience import Patience

_HAS_EPOLL = hasattr(select, "epoll")
READY_MAX = 64
"""Sources that are read in one turn, where the system takes turns between them (epoll does)."""


class Watch:
    """The descriptors of one loop, and whose they are."""

    def __init__(self, child: Child, door: Door) -> None:
        self.is_over = False
        """Whether this process is to end."""
        self._door = door
        self._door_due = 0.0
        self._entrances: list[int] = []
        self._is_entered = True
        self._poll: Any = select.epoll() if _HAS_EPOLL else select.poll()
        self._poll_now: Callable[[], Any] = partial(self._poll.poll, *((0, READY_MAX) if _HAS_EPOLL else (0,)))
        self._woken = -1
        self._patience = Patience() if processors.can_give_way() else None
        self._sources: dict[int, Any] = {}
        self._touched: dict[Any, None] = {}
        for descriptor in child.watched:
            try:
                self._poll.register(descriptor, select.POLLIN)
            except PermissionError:  # a file, or /dev/null, which epoll does not watch: it is at its end
                self.is_over = True

    def add(self, descriptor: int, source: object, *, entrance: bool = False) -> None:
        """Tell when this source can be read. One that is ZeroMQ's must be touched, now and whenever it has been used. Nobody
        comes to an entrance while the door is closed.
        """
        self._sources[descriptor] = source
        if entrance:
            self._entrances.append(descriptor)
        if not entrance or self._is_entered:
            self._poll.register(descriptor, select.POLLIN)

    def expect(self, descriptor: int, *, room: bool) -> None:
        """Tell when it can be written to as well, or not any more."""
        self._poll.modify(descriptor, select.POLLIN | select.POLLOUT if room else select.POLLIN)

    def remove(self, descriptor: int) -> None:
        """It is about to be closed."""
        self._touched.pop(self._sources.pop(descriptor), None)
        self._poll.unregister(descriptor)

    def waker(self) -> Callable[[], None]:
        """What a thread calls to end the wait."""
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        self._poll.register(self._woken, select.POLLIN)

        def call() -> None:
            with contextlib.suppress(BlockingIOError):  # it has been called so often that the pipe is full
                os.write(wake, b"\0")

        return call

    def lets_in(self) -> bool:
        """Whether one more may come to an entrance, who then does."""
        self._door.room -= 1
        if self._door.room < 0:
            self._door_due = 0.0  # it is looked again, and closed, before the next wait
        return self._door.room >= 0

    def touch(self, source: object) -> None:
        """There may be more to read here, whatever its descriptor says."""
        self._touched[source] = None

    def put_back(self, sources: list[Any]) -> None:
        """These were not read for lack of time: they come first in the next turn."""
        self._touched = {**dict.fromkeys(sources), **self._touched}

    def wait(self, now: float, until: float, *, looks: bool = True) -> list[Any]:
        """The sources to read, those first that were touched: they are here at once, others when something comes, or none
        until this time of the monotonic clock. It does not look, but sleeps at once, while other threads of this process have
        work: who gives way keeps the interpreter's lock meanwhile.
        """
        if now >= self._door_due:
            self._look_at_door(now)
        events = self._poll_now()
        if not self._touched:
            if events and self._patience is not None:
                self._patience.looks = True
            elif not events:
                events = self._awaited(min(until, self._door_due) - now, looks=looks)
            if len(events) == 1 and events[0][0] in self._sources:  # as mostly, while one client calls
                return [self._sources[events[0][0]]]
        return self._ready(events)

    def _ready(self, events: Any) -> list[Any]:
        ready, self._touched = self._touched, {}
        sources = self._sources
        for descriptor, _event in events:
            if descriptor in sources:
                ready[sources[descriptor]] = None
            elif descriptor == self._woken:
                os.read(descriptor, 4096)
            else:
                self.is_over = True
        return list(ready)

    def _look_at_door(self, now: float) -> None:
        self._door_due = self._door.look(now)
        if self._door.is_open == self._is_entered:
            return
        self._is_entered = self._door.is_open
        for descriptor in self._entrances:
            if self._is_entered:
                self._poll.register(descriptor, select.POLLIN)
            else:
                self._poll.unregister(descriptor)

    def _awaited(self, seconds: float, *, looks: bool) -> Any:
        """The events that come within so long; there are none yet."""
        patience = self._patience
        if patience is None:
            return self._polled(max(0.0, seconds))
        began = now = time.monotonic()
        look_seconds = patience.begins(now)
        ends = began + min(seconds, look_seconds) if looks else began
        while now < ends:
            os.sched_yield()
            events = self._poll_now()
            now = time.monotonic()
            if events:
                patience.ends(now, slept=False)
                return events
        events = self._polled(max(0.0, began + seconds - now))
        patience.ends(time.monotonic(), slept=True)
        return events

    def _polled(self, seconds: float) -> Any:
        return self._poll.poll(seconds, READY_MAX) if _HAS_EPOLL else self._poll.poll(ceil(seconds * 1000))
