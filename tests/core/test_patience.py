"""For how long a loop looks before it sleeps."""

from __future__ import annotations

from holdall.process.patience import LOOK_SECONDS, LOOK_SECONDS_MAX, Patience

BRIEF = LOOK_SECONDS / 2
LONG = LOOK_SECONDS * 3
WORK = LOOK_SECONDS / 10


class Loop:
    """One that works for WORK and waits in turns, by a clock of its own."""

    def __init__(self) -> None:
        self.patience = Patience()
        self.now = 1000.0
        self.waits(10.0)

    def waits(self, seconds: float, work: float = WORK) -> float:
        """Something comes after so long. Returns for how long it would have looked."""
        self.now += work
        look = self.patience.begins(self.now)
        self.now += seconds
        self.patience.ends(self.now, slept=look < seconds)
        return look


def test_who_waited_for_long_sleeps_at_once() -> None:
    loop = Loop()
    assert [loop.waits(10.0), loop.waits(LONG), loop.waits(LONG)] == [0.0, 0.0, 0.0]


def test_who_was_woken_soon_looks_from_then_on_until_it_finds_nothing() -> None:
    loop = Loop()
    assert loop.waits(BRIEF) == 0.0
    assert loop.waits(BRIEF) >= LOOK_SECONDS
    assert loop.waits(10.0) >= LOOK_SECONDS
    assert loop.waits(10.0) == 0.0


def test_who_has_worked_for_longer_looks_for_longer_within_a_bound() -> None:
    loop = Loop()
    loop.waits(BRIEF)
    assert loop.waits(LONG, work=LONG) > LONG  # so it finds what comes then
    assert loop.waits(BRIEF, work=0.0) < LONG  # and begins anew
    assert loop.waits(BRIEF, work=100 * LONG) == LOOK_SECONDS_MAX
