"""A client process: `python -m tests.soak.client SETTINGS`. Its callers make calls, one after another, until its input ends.

What it reads are the numbers of the generations of keys to go on with; what it writes is its record.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from random import Random
from typing import Any, Union

import msgspec

from holdall import Client, Dict, OutcomeUnknown
from holdall.errors import ConnectionError, StorageError, TimeoutError
from tests.soak.record import FAILURE_CHARACTERS_MAX, REFUSED, Broken, Ended, Started, now, say
from tests.soak.workload import Wish, Workload

FAILURES = (TimeoutError, ConnectionError, StorageError)
"""What a call may end in while something is broken; whether it happened is unknown then."""
FAILED_PAUSE_SECONDS = 0.1
"""How much longer a caller waits after a call that failed: a full disk refuses at once, and would fill a history."""


class ClientSettings(msgspec.Struct, frozen=True):
    """A client: it has so many threads that block, and so many tasks on one event loop."""

    name: str
    url: str
    dict: str
    timeout: float
    threads: int
    tasks: int
    seed: int
    generation: int
    pause_seconds: float
    """How long a caller waits between two calls, on average."""
    lanes: bool = True
    connection: Union[str, None] = None

    @property
    def callers(self) -> int:
        """How many calls it makes at once."""
        return self.threads + self.tasks


class ClientProcess:
    """This process."""

    def __init__(self, settings: ClientSettings, client: Client) -> None:
        self._settings = settings
        self._d: Dict[Any, str] = Dict.from_name(settings.dict, client=client)
        self._generation = settings.generation
        self._stopping = threading.Event()

    def run(self) -> None:
        """Until the input ends."""
        settings = self._settings
        threads = [threading.Thread(target=self._block, args=(number,)) for number in range(settings.threads)]
        if settings.tasks:
            threads.append(threading.Thread(target=lambda: asyncio.run(self._await_in_tasks())))
        for thread in threads:
            thread.start()
        for line in sys.stdin:
            self._generation = int(line)
        self._stopping.set()
        for thread in threads:
            thread.join()

    def _block(self, caller: int) -> None:
        workload, random = self._workload(caller, awaits=False)
        while not self._stopping.is_set():
            try:
                self._d.hydrate()  # so that no call has to look the Dict up within its own time
                break
            except FAILURES:
                pass
        while not self._stopping.is_set():
            wish = self._begin(caller, workload)
            try:
                ended: Ended | Broken = Ended(caller, 0, wish.make(self._d))
                ended.at = now()
            except Exception as error:
                ended = _failed(caller, error)
            say(ended)
            time.sleep(self._pause_seconds(random, ended))

    async def _await_in_tasks(self) -> None:
        first = self._settings.threads
        await asyncio.gather(*(self._await(first + number) for number in range(self._settings.tasks)))

    async def _await(self, caller: int) -> None:
        workload, random = self._workload(caller, awaits=True)
        while not self._stopping.is_set():
            try:
                await self._d.hydrate.aio()
                break
            except FAILURES:
                pass
        while not self._stopping.is_set():
            wish = self._begin(caller, workload)
            try:
                ended: Ended | Broken = Ended(caller, 0, await wish.make_awaiting(self._d))
                ended.at = now()
            except Exception as error:
                ended = _failed(caller, error)
            say(ended)
            await asyncio.sleep(self._pause_seconds(random, ended))

    def _workload(self, caller: int, *, awaits: bool) -> tuple[Workload, Random]:
        name = f"{self._settings.name}-{caller}"
        random = Random(f"{self._settings.seed} {name}")
        return Workload(random, name, awaits=awaits), random

    def _pause_seconds(self, random: Random, ended: Ended | Broken) -> float:
        failed = isinstance(ended, Broken) or bool(ended.why)
        return random.expovariate(1 / self._settings.pause_seconds) + (FAILED_PAUSE_SECONDS if failed else 0.0)

    def _begin(self, caller: int, workload: Workload) -> Wish:
        wish = workload.draw(self._generation)
        say(Started(caller, wish.generation, wish.kind, list(wish.numbers), list(wish.values), now()))
        return wish


def _failed(caller: int, error: Exception) -> Ended | Broken:
    if isinstance(error, FAILURES) and not isinstance(error, OutcomeUnknown):  # an outcome is kept while its call waits
        refused = isinstance(error, StorageError) and "values are refused" in str(error)
        return Ended(caller, now(), why=REFUSED if refused else type(error).__name__)
    return Broken(caller, now(), f"{type(error).__name__}: {error}"[:FAILURE_CHARACTERS_MAX])


def main() -> None:
    """Run."""
    settings = msgspec.json.decode(sys.argv[1], type=ClientSettings)
    url = None if settings.connection else settings.url
    with Client(url, timeout=settings.timeout, lanes=settings.lanes, connection=settings.connection) as client:
        ClientProcess(settings, client).run()


if __name__ == "__main__":
    main()
