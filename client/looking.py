"""Whether a blocking call looks again and again for its answer before it sleeps, and gives way between two looks.

To fall asleep and be woken takes longer than a small request, above all on a virtual machine, whose processor
is given away meanwhile; and who wakes somebody pays for it too. On the machine of bench/README.md a get took 17 µs so, and 25
asleep; four processes got a third more done, since their worker had nobody to wake.

    looks        unless the last MISSES_MAX answers took longer than LOOK_SECONDS: puts that wait for the disk, or answers from
                 far away, are waited for asleep
    looks for    LOOK_SECONDS; what is not there by then is waited for asleep
    rests        when somebody took the processor for more than TAKEN_SECONDS: a program that computes keeps it for some
                 milliseconds, and to somebody asleep an answer gives it back at once. Taken again soon, it rests longer

Tried: to look without giving way, which takes the processor from the worker (four processes got a fifth of it done), and to
rest as soon as somebody has had the processor for 0.2 ms, which others of the same job do all the time. And to rest when 64 or
400 answers in a row were there after giving way once, for more than 10 µs: a worker that has the same processor, because some
program keeps the other one, is the better for a client's sleep (a get takes 44 µs so, and 28 asleep); but the same happens
among four clients, who then lost all that they gain. Nor can a client find out by measuring: of four, each waits a tenth less
when it sleeps while the others look, and all get a fifth less done when all sleep.
"""

from __future__ import annotations

LOOK_SECONDS = 0.000075
MISSES_MAX = 2
TAKEN_SECONDS = 0.001
REST_SECONDS = 0.02
REST_SECONDS_MAX = 10.0
REST_FACTOR = 4


class Looking:
    """Of one stream. Times are of the monotonic clock."""

    def __init__(self) -> None:
        self.looks = True
        """Whether to look at all."""
        self.misses = 0
        """How many of the last answers have come later. Who finds one while looking sets it to 0."""
        self._rest_seconds = REST_SECONDS
        self._rests_until = 0.0

    def was_taken(self, now: float) -> None:
        """The processor was, while it looked."""
        soon = now - self._rests_until < self._rest_seconds
        self._rest_seconds = min(self._rest_seconds * REST_FACTOR, REST_SECONDS_MAX) if soon else REST_SECONDS
        self._rests_until = now + self._rest_seconds

    def has_slept(self, began: float, now: float) -> None:
        """The answer that was waited for since then came asleep."""
        self.misses = 0 if now - began < LOOK_SECONDS else self.misses + 1
        self.looks = self.misses < MISSES_MAX and now >= self._rests_until
