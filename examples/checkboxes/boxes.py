"""The boxes, as one of any number of servers knows them.

1. The truth about a box is an entry of a Dict, which is there while the box is checked.
2. A server that has changed boxes says which, after that, in a log (examples/log.py). All servers follow it, and read what it
   names: they come to the same, in whatever order they wrote.
3. A server that was killed between 1 and 2 has said nothing: all is read anew when one is silent, or the number is another.
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
    """Which boxes are checked. `changed` is called with those that may have changed, None: any; `here` counts browsers."""

    def __init__(self, name: str, changed: Callable[[Iterable[int] | None], None], here: Callable[[], int]) -> None:
        self._dict: Dict[int, bool] = Dict.from_name(name, create_if_missing=True, ttl=None)
        self._log, self._changed, self._here = Log(f"{name}-log"), changed, here
        self.checked, self.wanted = set[int](), dict[int, list[bool]]()
        self.asked = asyncio.Event()
        """What is stored, and what is to be, each in a list of its own; and that something is."""
        self._unread, self._is_odd, self._said, self._me = set[int](), False, 0.0, uuid4().hex
        self._servers: dict[str, tuple[int, float]] = {}

    def browsers(self) -> int:
        return sum(here for here, _at in self._servers.values())

    def bits(self, number: int) -> bytes:
        """So many boxes: box 0 is the lowest bit of the first byte."""
        found = bytearray(-(-number // 8))
        for box in self.checked:
            if type(box) is int and 0 <= box < number:
                found[box >> 3] |= 1 << (box & 7)
        return bytes(found)

    async def load(self) -> None:
        """Read all boxes; from then on, the log says what changes."""
        await self._log.begin()
        self.checked = {box async for box in self._dict.keys.aio()}
        self._changed(None)

    async def follow(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.asked.wait(), TICK_SECONDS)
            self.asked.clear()
            try:
                await self._step(dict(islice(self.wanted.items(), WANTED_MAX)))
            except Error as error:  # it stays wanted, and is tried again
                logging.getLogger(__name__).warning("%s", error)
                await asyncio.sleep(SAY_SECONDS)

    async def _step(self, wanted: dict[int, list[bool]]) -> None:
        await self._dict.update.aio({box: True for box, is_checked in wanted.items() if is_checked[0]})
        await self._dict.pop_many.aio([box for box, is_checked in wanted.items() if not is_checked[0]])
        is_time = time.monotonic() - self._said > SAY_SECONDS
        if wanted or is_time:
            await self._log.append([list(wanted), self._me, self._here(), time.time()])
        records = await self._log.read()
        for named, server, here, at in records or ():
            self._unread.update(named)
            self._servers[server] = here, at
        boxes = self._unread | wanted.keys()
        found = await self._dict.get_many.aio(boxes)
        self._unread.clear()
        for box in [box for box, is_checked in wanted.items() if self.wanted[box] is is_checked]:
            del self.wanted[box]  # the others were clicked again meanwhile
        self.checked -= boxes
        self.checked |= found.keys()
        if is_time:
            silent = [server for server, (_here, at) in self._servers.items() if time.time() - at > GONE_SECONDS]
            was_odd, self._is_odd = self._is_odd, await self._dict.len.aio() != len(self.checked)
            self._servers = {server: told for server, told in self._servers.items() if server not in silent}
            self._said = time.monotonic()
        if boxes or is_time:
            self._changed(boxes)
        if records is None or (is_time and (silent or (was_odd and self._is_odd))):
            await self.load()
