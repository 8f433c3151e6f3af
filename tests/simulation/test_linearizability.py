"""The checker itself, on histories that are known to be right and known to be wrong."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from tests.simulation.linearizability import (
    ABSENT,
    ADD,
    CONTAINS,
    EXPIRE,
    GET,
    POP,
    PUT,
    REMOVE,
    UNSEEN,
    Operation,
    is_linearizable,
)


def history(*calls: tuple[Any, ...]) -> list[Operation]:
    """Calls as (kind, argument, result, invoked, returned)."""
    return [Operation(*call) for call in calls]


RIGHT = {
    "nothing": [],
    "a put and a get": [(PUT, "a", True, 0, 1), (GET, None, "a", 2, 3)],
    "a get of what was never there": [(GET, None, ABSENT, 0, 1)],
    "a get at the same time may see either (absent)": [(PUT, "a", True, 0, 3), (GET, None, ABSENT, 1, 2)],
    "a get at the same time may see either (the value)": [(PUT, "a", True, 0, 3), (GET, None, "a", 1, 2)],
    "two puts at once in either order": [(PUT, "a", True, 0, 2), (PUT, "b", True, 0, 2), (GET, None, "a", 3, 4)],
    "one winner": [(ADD, "a", True, 0, 2), (ADD, "b", False, 0, 2), (GET, None, "a", 3, 4)],
    "a pop takes the value": [(PUT, "a", True, 0, 1), (POP, None, "a", 2, 3), (POP, None, ABSENT, 4, 5)],
    "an unknown put that happened late": [
        (PUT, "a", True, 0, inf),
        (GET, None, ABSENT, 1, 2),
        (GET, None, "a", 3, 4),
    ],
    "an unknown put that never happened": [(PUT, "a", True, 0, inf), (GET, None, ABSENT, 9, 10)],
    "an unknown pop that happened": [(PUT, "a", True, 0, 1), (POP, None, None, 2, inf), (GET, None, ABSENT, 3, 4)],
    "put, removed, added": [
        (PUT, "a", True, 0, 1),
        (REMOVE, None, True, 2, 3),
        (ADD, "b", True, 4, 5),
        (CONTAINS, None, True, 6, 7),
    ],
    "a value that expires in its time": [(PUT, "a", True, 0, 1), (EXPIRE, "a", UNSEEN, 5, inf), (GET, None, ABSENT, 6, 7)],
    "a value that need not have expired": [(PUT, "a", True, 0, 1), (EXPIRE, "a", UNSEEN, 5, inf), (GET, None, "a", 8, 9)],
    "an add after an end": [
        (PUT, "a", True, 0, 1),
        (EXPIRE, "a", UNSEEN, 5, inf),
        (ADD, "b", True, 6, 7),
        (GET, None, "b", 8, 9),
    ],
    "an unknown put that happened late and then expired": [
        (PUT, "a", True, 0, 1),
        (PUT, "b", UNSEEN, 2, inf),
        (EXPIRE, "b", UNSEEN, 5, inf),
        (GET, None, "a", 3, 4),
        (GET, None, ABSENT, 6, 7),
    ],
}
WRONG = {
    "a value from nowhere": [(GET, None, "a", 0, 1)],
    "a lost put": [(PUT, "a", True, 0, 1), (GET, None, ABSENT, 2, 3)],
    "an old value": [(PUT, "a", True, 0, 1), (PUT, "b", True, 2, 3), (GET, None, "a", 4, 5)],
    "two winners": [(ADD, "a", True, 0, 2), (ADD, "b", True, 0, 2)],
    "no winner": [(ADD, "a", False, 0, 1)],
    "a value popped twice": [(PUT, "a", True, 0, 1), (POP, None, "a", 2, 4), (POP, None, "a", 2, 4)],
    "a popped value that is still there": [(PUT, "a", True, 0, 1), (POP, None, "a", 2, 3), (GET, None, "a", 4, 5)],
    "reads that go back": [
        (PUT, "a", True, 0, 1),
        (PUT, "b", True, 2, 9),
        (GET, None, "b", 3, 4),
        (GET, None, "a", 5, 6),
    ],
    "a retried put that undid a newer one": [
        (PUT, "a", True, 0, 3),
        (PUT, "b", True, 4, 5),
        (GET, None, "b", 6, 7),
        (GET, None, "a", 8, 9),
    ],
    "an unknown put that happened twice": [
        (PUT, "a", True, 0, inf),
        (POP, None, "a", 1, 2),
        (POP, None, "a", 3, 4),
    ],
    "a value that expires too early": [(PUT, "a", True, 0, 1), (EXPIRE, "a", UNSEEN, 5, inf), (GET, None, ABSENT, 3, 4)],
    "a value that is there after its end": [
        (PUT, "a", True, 0, 1),
        (EXPIRE, "a", UNSEEN, 5, inf),
        (GET, None, ABSENT, 6, 7),
        (GET, None, "a", 8, 9),
    ],
    "the end of another value": [
        (PUT, "a", True, 0, 1),
        (PUT, "b", True, 2, 3),
        (EXPIRE, "a", UNSEEN, 2, inf),
        (GET, None, ABSENT, 4, 5),
        (GET, None, "b", 6, 7),
    ],
    "contains what was removed": [(PUT, "a", True, 0, 1), (REMOVE, None, True, 2, 3), (CONTAINS, None, True, 4, 5)],
}


@pytest.mark.parametrize("calls", RIGHT.values(), ids=RIGHT)
def test_a_right_history_is_explained(calls: list[tuple[Any, ...]]) -> None:
    assert is_linearizable(history(*calls))


@pytest.mark.parametrize("calls", WRONG.values(), ids=WRONG)
def test_a_wrong_history_is_not(calls: list[tuple[Any, ...]]) -> None:
    assert not is_linearizable(history(*calls))
