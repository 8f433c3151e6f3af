"""For how long a loop looks again and again before it sleeps, and gives way between two looks.

To fall asleep and be woken takes longer than a small request does, above all on a virtual machine, which leaves its processor
and gets it back: on two of its CPUs a get took 78 µs, and 28 when its worker had not fallen asleep. Without giving way a
relayed get, which passes three processes, took 180 µs, and 55 to 80 with it.

    looks at all     if it found something the last time, or was woken within LOOK_SECONDS
    looks for        LOOK_SECONDS, and as long as it has worked since it waited for longer than that: who was given more to do
                     is asked again later, because its client has more to do too

So who is idle, or asked now and then, uses no processor for this; who is asked all the time uses what nobody else wants.

Tried: not to look for 100 ms after somebody took the processor when it was given away. Beside two processes that only burn
CPU that halved what one client gets done, for others than they took it too.
"""

from __future__ import annotations

LOOK_SECONDS = 0.0001
"""Longer than one client takes from an answer to its next request. It is lost when none comes."""
LOOK_SECONDS_MAX = 0.0005


class Patience:
    """Of one loop. Times are of the monotonic clock."""

    def __init__(self) -> None:
        self.looks = False
        """Whether to look at all. Who has found something without waiting sets it, and tells of no wait."""
        self._began = 0.0
        self._ended = 0.0
        self._worked = 0.0

    def begins(self, now: float) -> float:
        """A wait begins. Returns for how long to look before sleeping."""
        self._worked += now - self._ended
        self._began = now
        return min(LOOK_SECONDS + self._worked, LOOK_SECONDS_MAX) if self.looks else 0.0

    def ends(self, now: float, *, slept: bool) -> None:
        """The wait is over."""
        self._ended = now
        was_brief = now - self._began < LOOK_SECONDS
        self.looks = was_brief or not slept
        if not was_brief:
            self._worked = 0.0
