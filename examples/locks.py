"""A lock, and a cache that computes each thing once, made of one call: `d.put(key, value, skip_if_exists=True)`.

1. A lock goes round in turns, numbered from 0. A turn is an entry: of all processes that put it, one is told that it did.
2. The next turn is asked for only when this one is over: its holder has said so, or the time is up that it was given.
3. Turns are never used twice, in a Dict whose entries do not expire (ttl=None). What a lock protects can refuse a holder that
   comes late, by the number of its turn.

The docs (docs/locks.md) say what such a lock cannot do.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Hashable
from typing import Any, Self

from holdall import Dict

POLL_SECONDS = 0.02
"""How often it is looked whether a turn is over, or a value has come."""
_MISSING: Any = object()


class Lock:
    """A lock that one process holds at a time, for `seconds` at most.

    Args:
        d: where the turns are entries: a Dict made with ttl=None; in another one a lock begins anew that nobody has asked for
            during its ttl.
        name: of the lock; any key.
        seconds: how long a turn lasts whose holder does not end it: after that it may be killed, and the next one goes on.
    """

    def __init__(self, d: Dict[Any, Any], name: Hashable, *, seconds: float = 10.0) -> None:
        self._d, self._name, self._seconds = d, name, seconds
        self.turn = -1
        """The number of the turn that was acquired last."""

    def try_acquire(self) -> bool:
        """Take the next turn, if the last one is over. Returns whether it was taken; never waits."""
        turn = self._d.get((self._name, "turn"), 0)  # where to begin to look: another process may be further by now
        while not self._d.put((self._name, turn), self._held(), skip_if_exists=True):
            _holder, until = self._d[self._name, turn]
            if time.time() < until:
                return False
            turn += 1
        self.turn = self._d[self._name, "turn"] = turn
        return True

    def acquire(self) -> None:
        """Wait until the turn is this process's."""
        while not self.try_acquire():
            time.sleep(POLL_SECONDS)

    def renew(self) -> bool:
        """Begin the time of this turn anew. Returns False if it was over, and another process has had the next one since."""
        self._d[self._name, self.turn] = self._held()
        return (self._name, self.turn + 1) not in self._d

    def release(self) -> None:
        """End the turn."""
        self._d[self._name, self.turn] = ("nobody", 0.0)

    def _held(self) -> tuple[str, float]:
        return f"{socket.gethostname()}:{os.getpid()}", time.time() + self._seconds

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()


def cached(
    d: Dict[Any, Any], key: Hashable, compute: Callable[[], Any], *, locks: Dict[Any, Any], seconds: float = 10.0
) -> Any:
    """The value of a key; where it is missing, one of all that ask computes it, and the others wait for it.

    Args:
        d: the cache.
        key: what is asked for.
        compute: makes the value, which is then stored. What it raises is raised here, and the next process tries.
        locks: a Dict for the turns.
        seconds: how long one process may compute; after that another one begins.
    """
    lock = Lock(locks, key, seconds=seconds)
    while (value := d.get(key, _MISSING)) is _MISSING:
        if not lock.try_acquire():
            time.sleep(POLL_SECONDS)
            continue
        try:
            value = d.get(key, _MISSING)  # it may have come just before the turn
            return d.setdefault(key, compute()) if value is _MISSING else value  # the first that is stored is it
        finally:
            lock.release()
    return value
