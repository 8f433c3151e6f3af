"""Callers at work on one Dict, each with keys of its own, and what they have been told; for tests of faults."""

from __future__ import annotations

import threading
from typing import Any

from holdall import Client, Dict
from holdall.errors import Error


class Load:
    """So many threads, each with a client: put if absent, read back, and take every other one out again."""

    def __init__(self, url: str, callers: int = 4, timeout: float = 30.0, size: int = 100) -> None:
        self.url = url
        self.acknowledged: set[str] = set()
        """Keys whose put was acknowledged, and which nobody has taken out."""
        self.taken: set[str] = set()
        self.unknown: set[str] = set()
        """Keys about which an error said that what happened is not known."""
        self.errors: list[str] = []
        self.wrong: list[str] = []
        """What can be explained by nothing that may be lost."""
        self.calls = 0
        self._timeout = timeout
        self._value = bytes(size)
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(callers)]

    def __enter__(self) -> Load:
        with Client(self.url) as client:
            Dict.from_name("load", create_if_missing=True, ttl=None, client=client).hydrate()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, caller: int) -> None:
        with Client(self.url, timeout=self._timeout) as client:
            d: Dict[str, Any] = Dict.from_name("load", client=client)
            number = 0
            while not self._is_over.is_set():
                number += 1
                key = f"{caller}-{number}"
                try:
                    self._step(d, key, takes=number % 2 == 0)
                except Error as error:
                    with self._lock:
                        self.unknown.add(key)
                        self.errors.append(f"{key}: {error}")
                except BaseException as error:
                    self.wrong.append(f"{key}: {error!r}")
                    raise

    def _step(self, d: Dict[str, Any], key: str, *, takes: bool) -> None:
        value = key.encode() + self._value
        if not d.put(key, value, skip_if_exists=True):
            self.wrong.append(f"{key}: it is there, and nobody else has put it")
        with self._lock:
            self.acknowledged.add(key)
        found = d.get(key)
        if found is not None and found != value:
            self.wrong.append(f"{key}: the value of another")
        if takes:
            popped = d.pop(key, None)
            with self._lock:
                self.acknowledged.discard(key)
                self.taken.add(key)
            if popped not in (value, None):
                self.wrong.append(f"{key}: another's was popped")
        self.calls += 3

    def settle(self) -> tuple[set[str], set[str]]:
        """What was acknowledged and is not there; what was taken and is."""
        with Client(self.url) as client:
            d: Dict[str, Any] = Dict.from_name("load", client=client)
            there = set(d.keys())
            assert len(d) == len(there)
        lost = self.acknowledged - there - self.unknown
        risen = (self.taken & there) - self.unknown
        return lost, risen
