"""The boxes, as one of any number of servers knows them.

1. The truth about a box is an entry of a Dict, which is there while the box is checked.
2. A server that has changed boxes says which, after that, in a log (examples/log.py). All servers follow it, and read what it
   names: they come to the same, in whatever order they wrote.
3. A server that was killed between 1 and 2 has said nothing: the number of entries tells, and all is read anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from uuid import uuid4

from examples.log import Log
from holdall import Dict, Error

TICK_SECONDS, SAY_SECONDS, GONE_SECONDS, WANTED_MAX = 0.04, 1.0, 3.0, 5_000
"""How often the log is read, and a server says that it lives; after what silence it does not; how many boxes change at once."""


class Boxes:
    """Which of so many boxes are checked. `changed` is called with those that may have changed; `here` counts browsers."""

    def __init__(self, name: str, number: int, changed: Callable[[Iterable[int]], None], here: Callable[[], int]) -> None:
        self._dict: Dict[int, bool] = Dict.from_name(name, create_if_missing=True, ttl=None)
        self._log = Log(f"{name}-log")
        self.number, self._changed, self._here = number, changed, here
        self.checked, self.wanted = set[int](), dict[int, bool]()
        """As it is stored, and what is to be; `asked` is set then."""
        self.asked = asyncio.Event()
        self._me, self._servers = uuid4().hex, dict[str, tuple[int, float]]()
        self._said, self._is_odd = 0.0, False

    def browsers(self) -> int:
        """How many there are, at all servers."""
        return sum(here for here, at in self._servers.values() if time.time() - at < GONE_SECONDS)

    def bits(self) -> bytes:
        """All boxes: box 0 is the lowest bit of the first byte."""
        bits = bytearray(-(-self.number // 8))
        for box in self.checked & set(range(self.number)):
            bits[box >> 3] |= 1 << (box & 7)
        return bytes(bits)

    async def load(self) -> None:
        """Read all boxes; from then on, the log says what changes."""
        await self._log.begin()
        self.checked = {box async for box in self._dict.keys.aio()}
        self._changed(range(self.number))

    async def follow(self) -> None:
        """Store what is wanted, and follow the others, until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.asked.wait(), TICK_SECONDS)
            self.asked.clear()
            try:
                await self._step(dict(islice(self.wanted.items(), WANTED_MAX)))
            except Error as error:  # it stays wanted, and is tried again
                logging.getLogger(__name__).warning("%s", error)

    async def _step(self, wanted: dict[int, bool]) -> None:
        await self._dict.update.aio({box: True for box, is_checked in wanted.items() if is_checked})
        await self._dict.pop_many.aio([box for box, is_checked in wanted.items() if not is_checked])
        is_time = time.monotonic() - self._said > SAY_SECONDS
        if wanted or is_time:
            await self._log.append([list(wanted), self._me, self._here(), time.time()])
        records, boxes = await self._log.read(), set(wanted)
        for named, server, here, at in records or ():
            boxes.update(named)
            self._servers[server] = here, at
        found = await self._dict.get_many.aio(boxes)
        for box in [box for box, is_checked in wanted.items() if self.wanted[box] == is_checked]:
            del self.wanted[box]  # the others were clicked again meanwhile
        self.checked -= boxes
        self.checked |= found.keys()
        if boxes or is_time:
            self._changed(boxes)
        if is_time:
            was_odd, self._is_odd = self._is_odd, await self._dict.len.aio() != len(self.checked)
            self._said = time.monotonic()
        if records is None or (is_time and was_odd and self._is_odd):
            await self.load()
