"""What clients ask: calls on few keys, so that they collide, with values all different, so that each tells its writer.

Keys belong to a generation: all clients move on to new ones together, so that what happened to a key stays short
enough to be judged, and is over while the run goes on.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from holdall import Dict
from tests.simulation.history import LENGTH, PUT_MANY, SET_DEFAULT
from tests.simulation.linearizability import ADD, CONTAINS, GET, POP, PUT, REMOVE

SHARES = {PUT: 24, GET: 20, POP: 16, ADD: 14, CONTAINS: 6, REMOVE: 6, SET_DEFAULT: 6, PUT_MANY: 6, LENGTH: 2}
"""How often each kind of call is made."""
WITH_VALUES = frozenset((PUT, ADD, SET_DEFAULT, PUT_MANY))
SHAPES: tuple[Any, ...] = ("a", True, ("b", 1), 2.5, b"c", frozenset({1, 2}))
"""What makes the keys of a generation: some whose encoding alone gives them back, some whose object travels along."""
UPDATE_KEYS_MAX = 4
PADDING_BYTES = (0, 0, 0, 0, 0, 0, 0, 0, 0, 2_000, 70_000)
"""Some values are too large for the row of a session, some for the head's frame."""


def key_of(generation: int, number: int) -> tuple[int, Any]:
    """A key of this generation."""
    return generation, SHAPES[number]


def padded(name: str) -> str:
    """The value that is stored under this name: its length follows from its number."""
    return name + "." * PADDING_BYTES[int(name.rpartition("-")[2]) % len(PADDING_BYTES)]


def name_of(value: Any) -> str:
    """The name of a value that was read, or else what it is."""
    try:
        name: str = value.rstrip(".")
        return name if padded(name) == value else f"{name}, damaged: it has {len(value)} characters"
    except (AttributeError, ValueError):
        return f"damaged: {value!r:.100}"


class Wish(NamedTuple):
    """A call to make."""

    kind: str
    generation: int
    numbers: tuple[int, ...] = ()
    values: tuple[str, ...] = ()

    def make(self, d: Dict[Any, str]) -> Any:
        """Make it on this thread."""
        if self.kind == REMOVE:
            return self._remove(d)
        method, arguments, options = self._call(d)
        return self._recorded(method(*arguments, **options))

    async def make_awaiting(self, d: Dict[Any, str]) -> Any:
        """Make it in this task; a removal, which is written with brackets, has no awaitable twin."""
        method, arguments, options = self._call(d)
        return self._recorded(await method.aio(*arguments, **options))

    def _remove(self, d: Dict[Any, str]) -> bool:
        try:
            del d[key_of(self.generation, self.numbers[0])]
        except KeyError:
            return False
        return True

    def _call(self, d: Dict[Any, str]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The method, with its arguments."""
        keys = [key_of(self.generation, number) for number in self.numbers]
        values = list(map(padded, self.values))
        if self.kind == LENGTH:
            return d.len, (), {}
        if self.kind == PUT_MANY:
            return d.update, (dict(zip(keys, values, strict=True)),), {}
        if self.kind in (PUT, ADD):
            return d.put, (keys[0], values[0]), {"skip_if_exists": self.kind == ADD}
        if self.kind == SET_DEFAULT:
            return d.setdefault, (keys[0], values[0]), {}
        if self.kind == CONTAINS:
            return d.contains, (keys[0],), {}
        return (d.get if self.kind == GET else d.pop), (keys[0], None), {}

    def _recorded(self, result: Any) -> Any:
        """A result as the harness is told it."""
        return name_of(result) if self.kind in (GET, POP, SET_DEFAULT) and result is not None else result


class Workload:
    """What one caller asks."""

    def __init__(self, random: Random, caller: str, *, awaits: bool) -> None:
        self._random = random
        self._caller = caller
        self._shares = {kind: share for kind, share in SHARES.items() if kind != REMOVE or not awaits}
        self._count = 0

    def draw(self, generation: int) -> Wish:
        """The next call."""
        random = self._random
        kind = random.choices(tuple(self._shares), tuple(self._shares.values()))[0]
        if kind == LENGTH:
            return Wish(kind, generation)
        most = UPDATE_KEYS_MAX if kind == PUT_MANY else 1
        numbers = tuple(random.sample(range(len(SHAPES)), random.randint(1, most)))
        return Wish(kind, generation, numbers, tuple(self._value() for _ in numbers) if kind in WITH_VALUES else ())

    def _value(self) -> str:
        self._count += 1
        return f"{self._caller}-{self._count}"
