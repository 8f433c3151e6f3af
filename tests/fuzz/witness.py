"""Clients that mind their own business while a service is attacked: each value they read is the one they wrote.

One has lanes to the workers, the other reaches them through the broker alone. Each now and then starts anew, as a newcomer
would. An error is a fault, but a TimeoutError: that one is allowed, and counted.
"""

from __future__ import annotations

import itertools
import threading
import time
from random import Random
from typing import Any, NamedTuple

from holdall import Client, Dict, TimeoutError

NAME = "what-the-witnesses-wrote"
CALLS_PER_CLIENT = 300
KEYS = 50
MISSING = "missing"
BY_LANE, RELAYED = KINDS = "by lane", "relayed"


class Testimony(NamedTuple):
    """What a witness saw."""

    kind: str
    calls: int
    slowest_seconds: float
    timeouts: int
    faults: list[str]


class Witness:
    """One client after the other, on one thread."""

    def __init__(self, url: str, kind: str) -> None:
        self._url = url
        self._kind = kind
        self._random = Random(kind)
        self._numbers = itertools.count()
        self._stored: dict[Any, Any] = {(kind, next(self._numbers)): MISSING for _ in range(KEYS)}
        self._calls = self._timeouts = 0
        self._slowest = 0.0
        self._faults: list[str] = []

    def watch(self, stop: Any) -> Testimony:
        """Call until told to stop, or until something is wrong."""
        while not stop.is_set() and not self._faults:
            try:
                with Client(self._url, lanes=self._kind == BY_LANE) as client:
                    d: Dict[Any, Any] = Dict.from_name(NAME, create_if_missing=True, client=client)
                    for _ in range(CALLS_PER_CLIENT):
                        if not stop.is_set():
                            self._call(d)
            except TimeoutError:
                self._timeouts += 1
            except Exception as error:  # whatever it is, it is told
                self._faults.append(f"{self._kind}: {type(error).__name__}: {error}")
        return Testimony(self._kind, self._calls, self._slowest, self._timeouts, self._faults)

    def _call(self, d: Dict[Any, Any]) -> None:
        """One call about some key. One that fails may still happen later, so its key is given up."""
        key, value = self._random.choice([*self._stored.items()])
        del self._stored[key]
        self._stored[self._kind, next(self._numbers)] = MISSING
        kind = self._random.choice(["get", "put", "pop", "claim"])
        started = time.monotonic()
        if kind == "get":
            self._expect(kind, key, d.get(key, MISSING), value)
        elif kind == "pop":
            self._expect(kind, key, d.pop(key, MISSING), value)
            value = MISSING
        elif kind == "put":
            value = self._calls
            d[key] = value
        else:
            self._expect(kind, key, d.put(key, self._calls, skip_if_exists=True), value == MISSING)
            value = self._calls if value == MISSING else value
        self._slowest = max(self._slowest, time.monotonic() - started)
        self._calls += 1
        self._stored.popitem()
        self._stored[key] = value

    def _expect(self, kind: str, key: Any, found: Any, expected: Any) -> None:
        if found != expected:
            self._faults.append(f"{kind} of {key} gave {found!r} and not {expected!r}")


def testify(url: str, begun: Any, stop: Any, told: Any) -> None:
    """Watch in a process of its own, by lanes and relayed, and put a testimony of each into `told`."""
    witnesses = [Witness(url, kind) for kind in KINDS]
    threads = [threading.Thread(target=lambda each=each: told.put(each.watch(stop))) for each in witnesses]
    for thread in threads:
        thread.start()
    begun.set()
    for thread in threads:
        thread.join()
