"""A thread of a simulated process: it runs real code, which waits where the network, a disk or the clock lets it.

Threads are greenlets, children of the one that runs the clock: one of them runs at a time, until it waits, and what happens
next is decided by the clock alone.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from greenlet import GreenletExit, getcurrent, greenlet

from tests.simulation.clock import Clock


class Thread:
    """A thread that begins with `run`, at once. What `run` raises comes out of the clock."""

    def __init__(self, clock: Clock, run: Callable[[], object]) -> None:
        self.is_alive = True
        """Whether it has neither ended nor been killed."""
        self.is_stopped = False
        """Whether it does not go on for the time being."""
        self._clock = clock
        self._run = run
        self._greenlet = greenlet(self._body)
        self._waits = 0
        self._is_due = False
        clock.call_in(0, self._go_on, self._waits)

    def wait(self, seconds: float = inf) -> None:
        """Called by the thread itself: let others go on, until `wake` is called, or so much time has passed."""
        assert getcurrent() is self._greenlet, "a thread waits for another one"
        self._waits += 1
        if seconds < inf:
            self._clock.call_in(seconds, self._go_on, self._waits)
        parent = self._greenlet.parent
        assert parent is not None
        parent.switch()
        if not self.is_alive:
            raise GreenletExit

    def checkpoint(self) -> None:
        """Called by the thread itself, where it may be found to be killed or stopped."""
        if not self.is_alive:
            raise GreenletExit
        if self.is_stopped:
            self.wait(0.0)

    def wake(self) -> None:
        """End its wait, if it waits."""
        self._clock.call_in(0, self._go_on, self._waits)

    def stop(self) -> None:
        """SIGSTOP: it does not go on before `resume`."""
        self.is_stopped = True

    def resume(self) -> None:
        """SIGCONT."""
        self.is_stopped = False
        if self._is_due:
            self._is_due = False
            self._clock.call_in(0, self._go_on, self._waits)

    def kill(self) -> None:
        """Have it never go on. If it is the one that runs, it ends where it waits next: see that nothing it does till then
        counts.
        """
        self.is_alive = False
        self._clock.call_in(0, self._unwind)

    def _body(self) -> None:
        try:
            self._run()
        finally:
            self.is_alive = False

    def _unwind(self) -> None:
        """End its greenlet, which is not the one that runs now."""
        if self._greenlet:
            self._greenlet.throw()

    def _go_on(self, waits: int) -> None:
        """End this wait of it."""
        if not self.is_alive or waits != self._waits:
            return
        if self.is_stopped:
            self._is_due = True
            return
        self._waits += 1
        self._greenlet.switch()
