"""Whether what the clients of one key saw can be explained by calls that happened one after another, each at a moment
between its invocation and its return.

After J. Wing and C. Gong ("Testing and Verifying Concurrent Objects", 1993), with G. Lowe's memory of the configurations that
were tried before. A configuration is which calls have happened, and the value they left behind. Calls that can happen next
are those that were invoked before any other outstanding one returned.

Four things keep the search short, none of which loses an explanation:

- A call that changed nothing, and fits, happens at once: what explains the history still does with that call moved forward.
- A call of unknown outcome never returns: it may happen at any time after its invocation, or not at all. It is tried only
  right before a call that would not fit without it: before any other one it might as well happen later, or never.
- An entry that expires is such a call, which removes one value and no other.
- Values that nobody saw are one value, and calls of unknown outcome that do the same are one call: the first one is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Any, Final, NamedTuple


class _Sign:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


ABSENT: Final = _Sign("absent")
"""The value of a key that is not there; and what a get or a pop of it returns."""
UNSEEN: Final = _Sign("unseen")
"""A result that nobody saw."""
_SOME_VALUE: Final = _Sign("some value")
_IMPOSSIBLE: Final = _Sign("impossible")

PUT, ADD, POP, REMOVE, GET, CONTAINS = "put", "put if absent", "pop", "remove", "get", "contains"
EXPIRE: Final = "expire"
"""Removes its argument, if that is the value: an event that no client calls, and that may happen or not."""
EVENTS_MAX = 3
"""Unknown calls tried in a row where entries expire: one that stores, its value's end, and another one that stores."""
READS = frozenset((GET, CONTAINS))
_NOTHING_CHANGED = frozenset(((ADD, False), (POP, ABSENT), (REMOVE, False)))
"""Results that say that the value is what it was."""


class Operation(NamedTuple):
    """One call on the key. `returned` is infinite when its outcome is unknown.

    The results: of ADD whether it was stored, of REMOVE whether it was there, of CONTAINS whether it is, of POP and GET the
    value or ABSENT; or UNSEEN.
    """

    kind: str
    argument: Any
    result: Any
    invoked: float
    returned: float = inf


def is_linearizable(operations: Iterable[Operation]) -> bool:
    """Whether some order explains these operations on a key that was absent at first. Their values are all different."""
    return _Search(list(operations)).finds_an_order()


class _Search:
    def __init__(self, operations: list[Operation]) -> None:
        seen = {each.result for each in operations if each.kind in (GET, POP)}
        self._history = sorted(
            (
                each if each.argument is None or each.argument in seen else each._replace(argument=_SOME_VALUE)
                for each in operations
                if each.returned < inf or each.kind not in READS
            ),
            key=lambda each: each.invoked,
        )
        self._required = sum(1 << number for number, each in enumerate(self._history) if each.returned < inf)

    def finds_an_order(self) -> bool:
        tried: set[tuple[int, Any]] = set()
        left: list[tuple[int, Any]] = [(0, ABSENT)]
        while left:
            happened = self._with_reads_that_fit(*left.pop())
            if happened[0] & self._required == self._required:
                return True
            if happened not in tried:
                tried.add(happened)
                left += self._next(*happened)
        return False

    def _with_reads_that_fit(self, done: int, value: Any) -> tuple[int, Any]:
        more = True
        while more:
            more = False
            for number in self._possible(done):
                operation = self._history[number]
                reads = operation.kind in READS or (operation.kind, operation.result) in _NOTHING_CHANGED
                if reads and _value_after(operation, value) is not _IMPOSSIBLE:
                    done |= 1 << number
                    more = True
        return done, value

    def _next(self, done: int, value: Any) -> list[tuple[int, Any]]:
        """The configurations after one more call that returned; the most urgent one is tried first."""
        possible = list(self._possible(done))
        required = [number for number in possible if self._required >> number & 1]
        required.sort(key=lambda number: self._history[number].returned, reverse=True)
        optional = [number for number in possible if not self._required >> number & 1]
        following: list[tuple[int, Any]] = []
        for number in required:
            operation = self._history[number]
            before = [(done, value)]
            depends = operation.kind == ADD and operation.result is UNSEEN
            if depends or _value_after(operation, value) is _IMPOSSIBLE:
                before += self._after_unknown_ones(done, value, optional)
            for done_before, value_before in reversed(before):
                after = _value_after(operation, value_before)
                if after is not _IMPOSSIBLE:
                    following.append((done_before | 1 << number, after))
        return following

    def _after_unknown_ones(self, done: int, value: Any, optional: list[int]) -> Iterator[tuple[int, Any]]:
        """After one call of unknown outcome that changes the value, or after a removal and then an ADD, which needs one."""
        first: dict[tuple[str, Any], int] = {}
        for number in optional:
            operation = self._history[number]
            kind = REMOVE if operation.kind == POP else operation.kind
            first.setdefault((kind, operation.argument), number)
        if any(kind == EXPIRE for kind, _argument in first):
            yield from self._after_some(done, value, list(first.values()), EVENTS_MAX)
            return
        removal = first.get((REMOVE, None))
        for (kind, argument), number in first.items():
            if kind == ADD and value is not ABSENT:
                if removal is not None:
                    yield done | 1 << number | 1 << removal, argument
            elif kind != REMOVE:
                yield done | 1 << number, argument
            elif value is not ABSENT:
                yield done | 1 << number, ABSENT

    def _after_some(self, done: int, value: Any, optional: list[int], most: int) -> Iterator[tuple[int, Any]]:
        """After up to so many of these calls, each of which changes the value."""
        for number in optional:
            after = _IMPOSSIBLE if done >> number & 1 else _value_after(self._history[number], value)
            if after is not _IMPOSSIBLE and after != value:
                yield done | 1 << number, after
                if most > 1:
                    yield from self._after_some(done | 1 << number, after, optional, most - 1)

    def _possible(self, done: int) -> Iterator[int]:
        """The operations that can happen next."""
        first_return = inf
        for number in range((~done & (done + 1)).bit_length() - 1, len(self._history)):
            operation = self._history[number]
            if operation.invoked > first_return:
                return
            if not done >> number & 1:
                yield number
                first_return = min(first_return, operation.returned)


def _value_after(operation: Operation, value: Any) -> Any:
    """The value that this operation leaves behind, if its result fits."""
    kind, argument, result, _invoked, _returned = operation
    if kind == PUT:
        seen, after = result, argument
    elif kind == ADD:
        seen, after = value is ABSENT, argument if value is ABSENT else value
    elif kind == POP:
        seen, after = value, ABSENT
    elif kind == REMOVE:
        seen, after = value is not ABSENT, ABSENT
    elif kind == GET:
        seen, after = value, value
    elif kind == EXPIRE:
        return ABSENT if value == argument else _IMPOSSIBLE
    else:
        seen, after = value is not ABSENT, value
    return after if result in (UNSEEN, seen) else _IMPOSSIBLE
