"""How long messages take, and how many copies of each arrive."""

from __future__ import annotations

from random import Random

LATE_SECONDS_MAX = 8.0
"""The longest a message is ever held up: beyond the time after which a client asks again."""


class Weather:
    """While it is stormy, a message in `late` is held up (and all behind it in its lane), one in `doubled` arrives twice."""

    def __init__(self, random: Random, late: float, doubled: float) -> None:
        self.stormy = False
        self._random = random
        self._late = late
        self._doubled = doubled

    def delay(self) -> float:
        """The seconds that the next message takes."""
        quick = 0.0001 + 0.001 * self._random.random()
        if self.stormy and self._random.random() < self._late:
            return quick + min(self._random.expovariate(1.0), LATE_SECONDS_MAX)
        return quick

    def copies(self) -> int:
        """How often the next message arrives."""
        return 2 if self.stormy and self._random.random() < self._doubled else 1
