"""What a broker's and a worker's loop wait for: messages on their sockets, a thread's call, and the end of their process.

One system call looks at everything; `zmq.Poller` makes six for two sockets. ZeroMQ's descriptor is edge-triggered: it tells of
what came since the socket was last read or written to, so a socket that was is looked at once more before its descriptor is
believed again. The poller has the admission of clients checked too, when that is due, and spins before it sleeps: see
`holdall.spin`.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any, Protocol

from holdall import processors
from holdall.spin import LoopSpin, spin

from .admission import Admission
from .child import Child

_HAS_EPOLL = hasattr(select, "epoll")
READY_MAX = 64
"""Sources that are read in one turn, where the system takes turns between them (epoll does)."""


class Poller(Protocol):
    """What a loop waits for: its sources, each of which can be read at some time."""

    is_over: bool
    """Whether this process is to end."""

    def wait(self, now: float, until: float, *, spins: bool = True) -> list[Any]:
        """The sources to read, those of `look_again` and `defer` first: they are here at once, others when something comes,
        or none until this time of the monotonic clock. Without `spins` it sleeps at once: for as long as other threads of this
        process have work, since a thread that gives way keeps the interpreter's lock.
        """
        ...

    def look_again(self, source: object) -> None:
        """There may be more to read here, whatever its descriptor says."""

    def defer(self, sources: list[Any]) -> None:
        """These were not read for lack of time: they come first in the next turn."""


class SystemPoller:
    """The poller of a real process, over the descriptors of its sources."""

    def __init__(self, child: Child, admission: Admission) -> None:
        self.is_over = False
        self._admission = admission
        self._admission_due = 0.0
        self._entrances: list[int] = []
        self.is_entered = True
        """Whether clients may come: there are descriptors for them."""
        self._poll: Any = select.epoll() if _HAS_EPOLL else select.poll()
        self._poll_now: Callable[[], Any] = partial(self._poll.poll, *((0, READY_MAX) if _HAS_EPOLL else (0,)))
        self._woken = -1
        self._spin = LoopSpin()
        self._sources: dict[int, Any] = {}
        self._to_look_at: dict[Any, None] = {}
        for descriptor in child.watched:
            try:
                self._poll.register(descriptor, select.POLLIN)
            except PermissionError:  # a file, or /dev/null, which epoll does not watch: it is at its end
                self.is_over = True

    def add(self, descriptor: int, source: object, *, entrance: bool = False) -> None:
        """Tell when this source can be read. One that is ZeroMQ's wants `look_again`, now and whenever it was used. An
        entrance, at which clients arrive, is not read while admission is closed.
        """
        self._sources[descriptor] = source
        if entrance:
            self._entrances.append(descriptor)
        if not entrance or self.is_entered:
            self._poll.register(descriptor, select.POLLIN)

    def expect(self, descriptor: int, *, room: bool) -> None:
        """Tell when it can be written to as well, or not any more."""
        self._poll.modify(descriptor, select.POLLIN | select.POLLOUT if room else select.POLLIN)

    def remove(self, descriptor: int) -> None:
        """It is about to be closed."""
        self._to_look_at.pop(self._sources.pop(descriptor), None)
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

    def admits(self) -> bool:
        """Whether one more client may be accepted at an entrance: it counts as connected from now on."""
        self._admission.room -= 1
        if self._admission.room < 0:
            self._admission_due = 0.0  # it is checked, and closed, before the next wait
        return self._admission.room >= 0

    def look_again(self, source: object) -> None:
        self._to_look_at[source] = None

    def defer(self, sources: list[Any]) -> None:
        self._to_look_at = {**dict.fromkeys(sources), **self._to_look_at}

    def wait(self, now: float, until: float, *, spins: bool = True) -> list[Any]:
        if now >= self._admission_due:
            self._check_admission(now)
        events = self._poll_now()
        if not self._to_look_at:
            if events:
                self._spin.is_on = True
            else:
                events = self._awaited(min(until, self._admission_due) - now, spins=spins)
            if len(events) == 1 and events[0][0] in self._sources:  # the usual case while one client calls
                return [self._sources[events[0][0]]]
        return self._ready(events)

    def _ready(self, events: Any) -> list[Any]:
        ready, self._to_look_at = self._to_look_at, {}
        sources = self._sources
        for descriptor, _event in events:
            if descriptor in sources:
                ready[sources[descriptor]] = None
            elif descriptor == self._woken:
                os.read(descriptor, 4096)
            else:
                self.is_over = True
        return list(ready)

    def _check_admission(self, now: float) -> None:
        self._admission_due = self._admission.check(now)
        if self._admission.is_open == self.is_entered:
            return
        self.is_entered = self._admission.is_open
        for descriptor in self._entrances:
            if self.is_entered:
                self._poll.register(descriptor, select.POLLIN)
            else:
                self._poll.unregister(descriptor)

    def _awaited(self, seconds: float, *, spins: bool) -> Any:
        """The events that come within so long; there are none yet."""
        began = time.monotonic()
        spin_seconds = self._spin.begins(began)
        can_spin = spins and processors.can_give_way()
        events = spin(lambda: self._poll_now() or None, began + min(seconds, spin_seconds)) if can_spin else None
        slept = events is None
        if slept:
            events = self._polled(max(0.0, began + seconds - time.monotonic()))
        self._spin.ends(time.monotonic(), slept=slept)
        return events

    def _polled(self, seconds: float) -> Any:
        return self._poll.poll(seconds, READY_MAX) if _HAS_EPOLL else self._poll.poll(ceil(seconds * 1000))
