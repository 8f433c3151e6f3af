"""What clients ask: calls on few keys, so that they collide, with values all different, so that each tells its writer."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from holdall.client.connection.query import Operation
from holdall.client.dict import Dict
from holdall.client.operations import entries, many, pages
from holdall.client.operations.encoding import key_data
from tests.simulation.history import ADD_MANY, CLEAR, GET_MANY, LENGTH, PAGE, POP_ANY, POP_MANY, PUT_MANY, SET_DEFAULT
from tests.simulation.linearizability import ABSENT, ADD, CONTAINS, GET, POP, PUT, REMOVE
from tests.simulation.scenario import Scenario

SHARES = {
    PUT: 24,
    GET: 20,
    POP: 16,
    ADD: 14,
    CONTAINS: 6,
    REMOVE: 4,
    SET_DEFAULT: 5,
    PUT_MANY: 6,
    ADD_MANY: 3,
    GET_MANY: 3,
    POP_MANY: 3,
    POP_ANY: 4,
    PAGE: 4,
    LENGTH: 2,
    CLEAR: 1,
}
"""How often each kind of call is made."""
ON_ALL_KEYS = frozenset((LENGTH, CLEAR, PAGE, POP_ANY))
ON_MANY_KEYS = frozenset((PUT_MANY, ADD_MANY, GET_MANY, POP_MANY))
WITH_VALUES = frozenset((PUT, ADD, SET_DEFAULT, PUT_MANY, ADD_MANY))
PADDING_BYTES = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2_000, 70_000)
"""Some values are too large for the row of a session, some for the head's frame."""


class Wish(NamedTuple):
    """A call to make. `page` is the worker of a PAGE."""

    kind: str
    dict: str
    keys: tuple[Any, ...]
    values: tuple[str, ...] = ()
    page: int = 0

    def operation(self, handle: Dict[Any, Any]) -> Operation[Any]:
        """What carries it out."""
        made: dict[str, Operation[Any]] = {
            LENGTH: entries.length(handle),
            CLEAR: entries.clear(handle),
            PAGE: _pages(handle, self.page),
            PUT_MANY: many.put_many(handle, zip(self.keys, self.values, strict=False), False),
            ADD_MANY: many.put_many(handle, zip(self.keys, self.values, strict=False), True),
            GET_MANY: many.get_many(handle, self.keys),
            POP_MANY: many.pop_many(handle, self.keys),
            POP_ANY: _popped(handle),
        }
        return made.get(self.kind) or self._on_one_key(handle, self.keys[0])

    def _on_one_key(self, handle: Dict[Any, Any], key: Any) -> Operation[Any]:
        if self.kind in (PUT, ADD):
            return entries.put(handle, key, self.values[0], self.kind == ADD)
        if self.kind == SET_DEFAULT:
            return entries.set_default(handle, key, self.values[0])
        if self.kind == GET:
            return entries.get(handle, key, key_data(handle, key), ABSENT)
        if self.kind == POP:
            return entries.pop(handle, key, ABSENT)
        if self.kind == REMOVE:
            return entries.remove(handle, key)
        return entries.contains(handle, key)


class Workload:
    """What one client asks."""

    def __init__(self, random: Random, scenario: Scenario, client: str) -> None:
        self._random = random
        self._scenario = scenario
        self._client = client
        self._count = 0

    def draw(self) -> Wish:
        """The next call."""
        random, scenario = self._random, self._scenario
        kind = random.choices(tuple(SHARES), tuple(SHARES.values()))[0]
        of = random.choice(scenario.dicts)
        if kind in ON_ALL_KEYS:
            return Wish(kind, of, scenario.keys, page=random.randrange(scenario.workers))
        most = len(scenario.keys) if kind in ON_MANY_KEYS else 1
        keys = tuple(random.sample(scenario.keys, random.randint(1, most)))
        return Wish(kind, of, keys, tuple(self._value() for _ in keys) if kind in WITH_VALUES else ())

    def _value(self) -> str:
        self._count += 1
        return f"{self._client.removeprefix('client ')}-{self._count}" + "." * self._random.choice(PADDING_BYTES)


def _pages(handle: Dict[Any, Any], worker: int) -> Operation[list[Any]]:
    """All items at one worker."""
    found: list[Any] = []
    after = {worker: b""}
    while after:
        items, after = yield from pages.pages(handle, after, True)
        found += items
    return found


def _popped(handle: Dict[Any, Any]) -> Operation[dict[Any, Any]]:
    try:
        return dict([(yield from entries.pop_any(handle))])
    except KeyError:
        return {}


def last_look(scenario: Scenario) -> list[Wish]:
    """Calls that look at all there is."""
    wishes: list[Wish] = []
    for of in scenario.dicts:
        wishes += [Wish(kind, of, (key,)) for key in scenario.keys for kind in (GET, CONTAINS)]
        wishes += [Wish(PAGE, of, scenario.keys, page=worker) for worker in range(scenario.workers)]
        wishes.append(Wish(LENGTH, of, scenario.keys))
    return wishes
