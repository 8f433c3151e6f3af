"""The virtual clock: what is due next happens next, and no time passes in between."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Clock:
    """Calls things when they are due, in the order of their times; in the order they were asked for when those are equal."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def call_at(self, time: float, action: Callable[..., None], *args: Any) -> None:
        """Have `action` called at this time. It cannot be taken back: what was to happen looks whether it still matters."""
        self._count += 1
        heappush(self._due, (time, self._count, action, args))

    def call_in(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        """Have `action` called after so many seconds."""
        self.call_at(self.now + seconds, action, *args)

    def advance(self, until: float, stop: Callable[[], bool] = lambda: False) -> bool:
        """Let everything happen that is due until then, or until `stop`. Returns whether `stop` came first."""
        due = self._due
        while due and due[0][0] <= until:
            if stop():
                return True
            self.now, _count, action, args = heappop(due)
            action(*args)
        if stop():
            return True
        self.now = max(self.now, until)
        return False
