"""A log that any number of processes append to and follow, in a Dict.

1. Record n is the entry n: whoever puts it first has appended it, the others try the next number. So all read the same order.
2. The entry "last" says about where the end is, for who comes anew: from there on all records are there.
3. Records expire. Who has not read for longer than they live is told so, and has to begin anew.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from holdall import Dict

AT_ONCE = 16
"""How many records are asked for in one call."""


class Log:
    """The records of one log, from its end at the time of `begin` on.

    Args:
        name: of the Dict.
        ttl: how many seconds a record lives; readers ask far more often.
    """

    def __init__(self, name: str, *, ttl: float = 60.0) -> None:
        self._records: Dict[Any, Any] = Dict.from_name(name, create_if_missing=True, ttl=ttl)
        self._next, self._is_late = 0, False

    async def begin(self) -> None:
        """Read from the end on."""
        self._next = max(self._next, await self._records.get.aio("last", -1) + 1)

    async def append(self, record: Any) -> None:
        """Add a record, which readers are given within their next few reads."""
        last = await self._records.get.aio("last", -1)
        for number in count(max(self._next, last + 1)):
            if await self._records.put.aio(number, record, skip_if_exists=True):
                break
        await self._records.put.aio("last", number)

    async def read(self) -> list[Any] | None:
        """The records that follow, if there are any; None: some have expired unread, and reading begins anew at the end."""
        first, records = self._next, list[Any]()
        found = await self._records.get_many.aio(["last", *range(first, first + AT_ONCE)])
        while self._next in found:
            records.append(found[self._next])
            self._next += 1
        was_late, self._is_late = self._is_late, self._next == first <= found.get("last", -1)
        if was_late and self._is_late:  # seen twice: once, it may just have come
            await self.begin()
            return None
        return records
