"""What a signal handler raises while something is pickled comes out as it is, and nothing that was popped is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdall import Dict

pytestmark = pytest.mark.filterwarnings("ignore::holdall.KeyTypeWarning")
Call = Callable[[Dict[Any, Any]], object]


class SoftTimeLimit(Exception):
    """As celery's: no relative of any error of ours."""


RAISED = [SoftTimeLimit, TimeoutError, InterruptedError, KeyboardInterrupt]
armed: list[type[BaseException]] = []
"""What the next interruption raises, if anything."""


def interrupted(value: Any) -> Any:
    """Its argument, once the signals that are due have been handled."""
    if armed:
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(1_000):  # the handler runs between two of these
            pass
    return value


class Interrupts:
    """Is interrupted whenever it is pickled, or read back."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return Interrupts, (interrupted(self.value),)

    def __setstate__(self, state: object) -> None:
        raise AssertionError

    def __new__(cls, value: Any) -> Interrupts:
        interrupted(value)
        return super().__new__(cls)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Interrupts) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


KEY = ("k", 1.5, Interrupts(7))
READS: dict[str, Call] = {
    "get": lambda d: d.get("k"),
    "subscription": lambda d: d["k"],
    "get_many": lambda d: d.get_many(["k", "l"]),
    "get_many of some that are missing": lambda d: d.get_many(["k", "none"]),
    "setdefault": lambda d: d.setdefault("k", 0),
    "values": lambda d: list(d.values()),
    "items": lambda d: list(d.items()),
    "copy": lambda d: d.copy(),
    "keys": lambda d: list(d.keys()),
    "==": lambda d: d == {"k": 1},
    "pop": lambda d: d.pop("k"),
    "pop of a key that is pickled": lambda d: d.pop(KEY),
    "pop_many": lambda d: d.pop_many(["k", "l", "m", "large"]),
    "popitem": lambda d: [d.popitem() for _ in range(9)],
    "pop of a large value": lambda d: d.pop("large"),
}
WRITES: dict[str, Call] = {
    "put": lambda d: d.put("new", Interrupts(1)),
    "assignment": lambda d: d.__setitem__("new", Interrupts(1)),
    "setdefault": lambda d: d.setdefault("new", Interrupts(1)),
    "update": lambda d: d.update({"new": Interrupts(1)}),
    "put_many": lambda d: d.put_many([("new", Interrupts(1))]),
    "put under a key": lambda d: d.put(Interrupts(1), 1),
    "get of a key": lambda d: d.get(Interrupts(1)),
    "get_many of keys": lambda d: d.get_many(["k", Interrupts(1)]),
    "contains": lambda d: Interrupts(1) in d,
}


@pytest.fixture(params=RAISED, ids=lambda raised: raised.__name__)
def raised(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    def handle(_number: int, _frame: object) -> None:
        raise armed.pop()("from the handler")

    before = signal.signal(signal.SIGUSR1, handle)
    yield request.param
    armed.clear()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("call", READS)
def test_raised_while_something_is_read_back(d: Dict[Any, Any], raised: type[BaseException], call: str) -> None:
    entries: dict[Any, Any] = {"k": Interrupts(1), "l": Interrupts(2), "m": Interrupts(3), KEY: Interrupts(4)}
    entries["large"] = [bytes(300_000), Interrupts(5)]
    d.update(entries)
    armed.append(raised)
    with pytest.raises(raised, match="from the handler"):
        READS[call](d)
    armed.clear()
    assert dict(d) == entries


@pytest.mark.parametrize("call", WRITES)
def test_raised_while_something_is_pickled(d: Dict[Any, Any], raised: type[BaseException], call: str) -> None:
    d["k"] = 1
    armed.append(raised)
    with pytest.raises(raised, match="from the handler"):
        WRITES[call](d)
    armed.clear()
    assert dict(d) == {"k": 1}
