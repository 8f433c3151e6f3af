"""The judgement of a record, on records that cannot be true."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.linearizability import ABSENT, GET, PUT
from tests.simulation.simulation import Violation
from tests.soak.client import ClientSettings
from tests.soak.ledger import Ledger
from tests.soak.record import REFUSED, Broken, Ended, Started, now
from tests.soak.workload import SHAPES

CLIENT = ClientSettings("client", "", "", timeout=2.0, threads=1, tasks=0, seed=0, generation=0, pause_seconds=0.0)
SECOND = 1_000_000_000


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger(late_seconds=1.0)
    ledger.join(CLIENT)
    return ledger


def call(ledger: Ledger, kind: str, value: str = "", result: Any = True, *, why: str = "", seconds: float = 0.0) -> None:
    ledger.note("client", Started(0, 0, kind, [0], [value] if value else [], now()))
    ledger.note("client", Ended(0, now() + int(seconds * SECOND), None if why else result, why))


def judge(ledger: Ledger, value: Any) -> None:
    """Judge the keys, of which the first was found to hold this value in the end."""
    ledger.judge(0, [ledger.look(0, number, ABSENT if number else value, ledger.seconds()) for number in range(len(SHAPES))])


def test_a_value_that_was_acknowledged_and_is_not_there_is_a_violation(ledger: Ledger) -> None:
    call(ledger, PUT, "one")
    with pytest.raises(Violation, match="cannot have happened"):
        judge(ledger, ABSENT)


def test_a_value_that_is_lost_after_its_keys_were_judged_is_a_violation(ledger: Ledger) -> None:
    call(ledger, PUT, "one")
    judge(ledger, "one")
    with pytest.raises(Violation, match="cannot have happened"):
        judge(ledger, ABSENT)


def test_a_put_of_unknown_outcome_may_happen_after_its_keys_were_judged(ledger: Ledger) -> None:
    call(ledger, PUT, "one")
    call(ledger, PUT, "two", why="TimeoutError")
    judge(ledger, "one")
    judge(ledger, "two")
    with pytest.raises(Violation, match="one was not stored"):
        judge(ledger, "one")


def test_a_put_that_was_refused_for_want_of_room_may_not_have_happened(ledger: Ledger) -> None:
    call(ledger, PUT, "one", why=REFUSED)
    with pytest.raises(Violation, match="one was not stored"):
        judge(ledger, "one")


def test_a_call_that_outlives_its_timeout_is_a_violation(ledger: Ledger) -> None:
    call(ledger, GET, result=None, seconds=2.9)
    with pytest.raises(Violation, match=r"hung: it took 3\.1"):
        call(ledger, GET, result=None, seconds=3.1)


def test_an_error_that_no_outage_explains_is_a_violation(ledger: Ledger) -> None:
    ledger.note("client", Started(0, 0, GET, [0], [], now()))
    with pytest.raises(Violation, match="NotFoundError"):
        ledger.note("client", Broken(0, now(), "NotFoundError: it was deleted"))


def test_a_generation_is_over_when_every_caller_has_gone_on_or_is_gone(ledger: Ledger) -> None:
    other = ClientSettings("other", "", "", timeout=2.0, threads=1, tasks=0, seed=0, generation=0, pause_seconds=0.0)
    ledger.join(other)
    ledger.note("client", Started(0, 1, GET, [0], [], now()))
    assert ledger.is_over() is None
    ledger.leave(other)
    assert ledger.is_over() == 0
    assert ledger.is_over() is None
