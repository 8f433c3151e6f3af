"""For how long a loop spins before it sleeps."""

from __future__ import annotations

from holdall.spin import LOOP_SPIN_SECONDS, LOOP_SPIN_SECONDS_MAX, LoopSpin

BRIEF = LOOP_SPIN_SECONDS / 2
LONG = LOOP_SPIN_SECONDS * 2
WORK = LOOP_SPIN_SECONDS / 10


class Loop:
    """One that works for WORK and waits in turns, by a clock of its own."""

    def __init__(self) -> None:
        self.spin = LoopSpin()
        self.now = 1000.0
        self.waits(10.0)

    def waits(self, seconds: float, work: float = WORK) -> float:
        """Something comes after so long. Returns for how long it would have spun."""
        self.now += work
        spins = self.spin.begins(self.now)
        self.now += seconds
        self.spin.ends(self.now, slept=spins < seconds)
        return spins


def test_a_loop_that_waited_for_long_sleeps_at_once() -> None:
    loop = Loop()
    assert [loop.waits(10.0), loop.waits(LONG), loop.waits(LONG)] == [0.0, 0.0, 0.0]


def test_a_loop_that_was_woken_soon_spins_from_then_on_until_it_finds_nothing() -> None:
    loop = Loop()
    assert loop.waits(BRIEF) == 0.0
    assert loop.waits(BRIEF) >= LOOP_SPIN_SECONDS
    assert loop.waits(10.0) >= LOOP_SPIN_SECONDS
    assert loop.waits(10.0) == 0.0


def test_a_loop_that_has_worked_for_longer_spins_for_longer_within_a_bound() -> None:
    loop = Loop()
    loop.waits(BRIEF)
    assert loop.waits(LONG, work=LONG) > LONG  # so it finds what comes then
    assert loop.waits(BRIEF, work=0.0) < LONG  # and begins anew
    assert loop.waits(BRIEF, work=100 * LONG) == LOOP_SPIN_SECONDS_MAX
