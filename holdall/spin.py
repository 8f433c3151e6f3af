"""Looks again and again for a moment before it sleeps: to fall asleep and be woken takes longer than a small request does.

The invariant of this speed device: a look takes what is there, and the processor is given away before the next one, so nothing
that is to send an answer is ever kept from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from . import processors

LOOP_SPIN_SECONDS = 0.0002
"""Longer than a client takes from an answer to its next request. It is lost when none comes."""
LOOP_SPIN_SECONDS_MAX = 0.0005
ANSWER_SPIN_SECONDS = 0.000075
MISSES_MAX = 2
"""So many answers that came later, one after the other, come from a disk or from afar: the next one is waited for asleep."""

T = TypeVar("T")


def spin(look: Callable[[], T | None], until: float) -> T | None:
    """What `look` finds before this time of the monotonic clock, if anything."""
    while monotonic() < until:
        os.sched_yield()
        found = look()
        if found is not None:
            return found
    return None


class AnswerSpin:
    """For a thread that waits for one answer. After MISSES_MAX late answers it sleeps at once, until one comes soon."""

    def __init__(self) -> None:
        self._misses = 0 if processors.can_give_way() else MISSES_MAX

    def wait(self, look: Callable[[], T | None], sleep: Callable[[], T]) -> T:
        """What comes next: what `look` finds soon, or else what `sleep` waits for."""
        now = monotonic()
        soon = now + ANSWER_SPIN_SECONDS
        while self._misses < MISSES_MAX and now < soon:
            os.sched_yield()
            found = look()
            if found is not None:
                self._misses = 0
                return found
            now = monotonic()
        slept = sleep()
        if processors.can_give_way():
            self._misses = 0 if monotonic() < soon else self._misses + 1
        return slept


class LoopSpin:
    """For the loop of a server, which uses no processor for this while it is idle, or asked now and then.

    spins at all   if it found something the last time, or was woken within LOOP_SPIN_SECONDS
    spins for      LOOP_SPIN_SECONDS, and as long as it has worked since it waited for longer than that: a client that has given
                   the loop more to do has more to do itself before it asks again
    """

    def __init__(self) -> None:
        self.is_on = False
        """Whether to spin in the next wait; its owner sets it when it has found something without a wait."""
        self._began = 0.0
        self._ended = 0.0
        self._worked = 0.0

    def begins(self, now: float) -> float:
        """A wait begins. Returns for how many seconds to spin."""
        self._worked += now - self._ended
        self._began = now
        return min(LOOP_SPIN_SECONDS + self._worked, LOOP_SPIN_SECONDS_MAX) if self.is_on else 0.0

    def ends(self, now: float, *, slept: bool) -> None:
        """The wait is over."""
        self._ended = now
        was_brief = now - self._began < LOOP_SPIN_SECONDS
        self.is_on = was_brief or not slept
        if not was_brief:
            self._worked = 0.0
