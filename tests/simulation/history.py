"""What happened in a run: every call with its invocation and its outcome, and everything that went wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any

from tests.simulation import trace
from tests.simulation.clock import Clock
from tests.simulation.linearizability import ABSENT, ADD, GET, POP, PUT, REMOVE, UNSEEN, Operation

PUT_MANY, ADD_MANY, GET_MANY, POP_MANY = "put many", "put many if absent", "get many", "pop many"
SET_DEFAULT, POP_ANY, LENGTH, CLEAR, PAGE = "set default", "pop any", "length", "clear", "page"
_ON_EACH_KEY = {
    PUT_MANY: PUT,
    ADD_MANY: ADD,
    GET_MANY: GET,
    POP_MANY: POP,
    SET_DEFAULT: ADD,
    CLEAR: REMOVE,
    PAGE: GET,
    POP_ANY: POP,
}
"""What a call does to each of its keys, one after another; a page reads them at once."""

LAST_LOOK = "last look"
"""The client that reads everything in the end."""

Place = tuple[str, Any]
"""The name of a Dict, and a key in it."""


@dataclass(eq=False)
class Call:
    """A call of a client: on some keys of a Dict, with a value for each if it stores.

    `returned` is infinite while it runs, and stays so if nobody waited for its end or it failed; `why` says then what became
    of it. What failed or was abandoned may have happened, or may still happen.
    """

    client: str
    kind: str
    dict: str
    keys: tuple[Any, ...]
    values: tuple[str, ...]
    invoked: float
    ended: float = inf
    returned: float = inf
    result: Any = UNSEEN
    why: str = ""

    def operations(self) -> Iterator[tuple[Place, Operation]]:
        """What it did to each of its keys."""
        if self.kind == LENGTH:
            return
        for key, value in zip(self.keys, self.values or (None,) * len(self.keys), strict=True):
            kind = _ON_EACH_KEY.get(self.kind, self.kind)
            yield (self.dict, key), Operation(kind, value, self._result_of(key, value), self.invoked, self.returned)
            if self.kind == SET_DEFAULT and self.result not in (UNSEEN, value):  # it saw what was there, too
                yield (self.dict, key), Operation(GET, None, self.result, self.invoked, self.returned)

    def _result_of(self, key: Any, value: str | None) -> Any:
        """What it says of one of its keys."""
        if self.returned == inf or self.kind in (PUT_MANY, CLEAR):
            return UNSEEN
        if self.kind == ADD_MANY:
            return {0: False, len(self.keys): True}.get(self.result, UNSEEN)
        if self.kind == SET_DEFAULT:
            return self.result == value
        return self.result.get(key, ABSENT) if isinstance(self.result, dict) else self.result

    def __str__(self) -> str:
        shown = [f"{key!r}: {shorten(value)}" for key, value in zip(self.keys, self.values, strict=False)]
        of = ", ".join(shown or map(repr, self.keys)) if self.kind not in (CLEAR, LENGTH, POP_ANY) else ""
        return f"{self.kind} {self.dict}[{of}]"

    def outcome(self) -> str:
        """What became of it, in words."""
        if self.returned == inf:
            return self.why or "is under way"
        if isinstance(self.result, dict):
            return "→ " + (", ".join(f"{key!r}: {shorten(value)}" for key, value in self.result.items()) or "nothing")
        return f"→ {shorten(self.result)}"


@dataclass
class History:
    """One run's calls and events."""

    clock: Clock
    calls: list[Call] = field(default_factory=list)
    _events: list[tuple[float, str, Callable[[], str]]] = field(default_factory=list)

    def invoke(self, client: str, kind: str, dict_: str, keys: tuple[Any, ...], values: tuple[str, ...]) -> Call:
        """A call begins."""
        call = Call(client, kind, dict_, keys, values, self.clock.now)
        self.calls.append(call)
        self._events.append((self.clock.now, client, lambda: f"{call} …"))
        return call

    def answer(self, call: Call, result: Any) -> None:
        """A call returns."""
        call.ended = call.returned = self.clock.now
        call.result = result
        self._events.append((self.clock.now, call.client, lambda: f"{call} {call.outcome()}"))

    def lose(self, call: Call, why: str) -> None:
        """A call ends without an answer."""
        call.ended = self.clock.now
        call.why = why
        self._events.append((self.clock.now, call.client, lambda: f"{call} {call.outcome()}"))

    def note(self, who: str, what: str) -> None:
        """Something else happens."""
        self._events.append((self.clock.now, who, lambda: what))

    def message(self, lane: str, frames: list[Any]) -> None:
        """A message arrives."""
        self._events.append((self.clock.now, "", lambda: f"    {lane}: {trace.shown(frames)}"))

    def __str__(self) -> str:
        return "\n".join(f"{_time(time)}  {who:9} {what()}" for time, who, what in self._events)


def operations_of(calls: Iterable[Call]) -> dict[Place, list[Operation]]:
    """What these calls did to each key."""
    operations: dict[Place, list[Operation]] = {}
    for call in calls:
        for place, operation in call.operations():
            operations.setdefault(place, []).append(operation)
    return operations


def told_of(calls: Iterable[Call], place: Place) -> str:
    """Those of these calls that concern this key, one on each line."""
    about = sorted(
        (call for call in calls if any(each == place for each, _operation in call.operations())),
        key=lambda call: call.invoked,
    )
    return "\n".join(f"{_time(c.invoked)} – {_time(c.returned)}  {c.client:9} {c} {c.outcome()}" for c in about)


def shorten(value: object) -> str:
    """A value as a line of the history shows it; padding does not tell values apart."""
    text = value.rstrip(".") if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _time(seconds: float) -> str:
    return f"{seconds:10.6f}" if seconds < inf else f"{'never':>10}"
