"""A short attack on each socket. `make fuzz` sends 10,000,000 messages to each."""

from __future__ import annotations

import pytest

from tests.fuzz.attack import SOCKETS, attack
from tests.fuzz.witness import KINDS

MESSAGES = 5_000


@pytest.mark.parametrize("at", SOCKETS)
def test_a_flood_of_hostile_messages_harms_nobody(at: str) -> None:
    report = attack(at, MESSAGES, seed=1)
    assert report.faults == []
    assert report.messages == MESSAGES
    assert report.strangers > 0
    assert len(report.growths) == 4
    assert {each.kind for each in report.testimonies if each.calls} == {*KINDS}
