"""A program's thread or task: it makes its calls one after another, now and then gives one up, and records what it saw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from math import inf
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from holdall import keys
from holdall.client.connection.query import Operation, Queries, Query
from holdall.errors import ConnectionError, Error, OutcomeUnknown, StorageError, TimeoutError
from holdall.slots import key_hash, slot_of
from tests.simulation.history import ADD_MANY, LENGTH, PAGE, POP_ANY, PUT_MANY, Call
from tests.simulation.linearizability import PUT
from tests.simulation.workload import Wish

if TYPE_CHECKING:
    from tests.simulation.client_process import ClientProcess, Life
    from tests.simulation.simulation import Simulation

LATE_SECONDS_MAX = 1.0
"""By how much a call may overrun its deadline: a driver checks four times a second, a blocking one after so long a silence."""
FAILURES = (TimeoutError, ConnectionError, StorageError)
"""What a call may end in while something is broken; whether it happened is unknown then."""


class Task:
    """Makes the calls in `wishes`, in one life of its client after the other."""

    def __init__(self, simulation: Simulation, process: ClientProcess, wishes: Iterator[Wish], pause_seconds: float) -> None:
        self.is_done = False
        self._simulation = simulation
        self._process = process
        self._wishes = wishes
        self._pause_seconds = pause_seconds
        self._call: Call | None = None
        self._deadline = inf
        self._abandon: Callable[[], object] = lambda: None
        process.busy_tasks += 1

    def run_blocking(self, life: Life) -> None:
        """Make the calls that are left, in the thread of this life."""
        life.wait(self._pause())
        for wish in self._wishes:
            operation = self._began(wish, life)
            self._abandon = life.interrupt
            try:
                result = life.client.run(operation)
            except KeyboardInterrupt:
                self.lose("was abandoned")
            except Error as error:
                self._failed(error, life)
            else:
                self._answered(wish, result, life)
            life.wait(self._pause())
        self._end()

    async def run_awaiting(self, life: Life) -> None:
        """Make the calls that are left, in a task of this life's loop."""
        assert life.loop is not None
        await asyncio.sleep(self._pause())
        for wish in self._wishes:
            operation = self._began(wish, life)
            calling = life.loop.create_task(life.client.run_awaiting(operation))
            self._abandon = calling.cancel
            try:
                result = await calling
            except asyncio.CancelledError:
                self.lose("was abandoned")
            except Error as error:
                self._failed(error, life)
            else:
                self._answered(wish, result, life)
            await asyncio.sleep(self._pause())
        self._end()

    def lose(self, why: str) -> None:
        """The call that is under way, if one is, is over, and nobody knows what became of it."""
        if self._call is not None:
            self._simulation.history.lose(self._call, why)
            self._call = None

    def _pause(self) -> float:
        return self._simulation.random.expovariate(1 / self._pause_seconds) if self._pause_seconds else 0.0

    def _began(self, wish: Wish, life: Life) -> Operation[Any]:
        simulation = self._simulation
        call = self._call = simulation.history.invoke(self._process.name, *wish[:4])
        self._deadline = call.invoked + life.client.timeout
        seconds = simulation.faults.abandonment()
        if seconds is not None:
            simulation.clock.call_in(seconds, self._give_up, call)
        return self._watched(wish.operation(life.handles[wish.dict]), life)

    def _give_up(self, call: Call) -> None:
        if self._call is call:
            self._abandon()

    def _watched(self, operation: Operation[Any], life: Life) -> Operation[Any]:
        """The operation; each part of a large value that it transfers has the whole time of a call from when it begins."""
        answer: Any = None
        try:
            while True:
                asked = operation.send(answer)
                if isinstance(asked, Queries) and asked.transfers:
                    asked = replace(asked, queries=self._timed(asked, life), work=asked.work and self._late(asked.work, life))
                answer = yield asked
        except StopIteration as stop:
            return stop.value
        finally:
            operation.close()

    def _timed(self, asked: Queries, life: Life) -> Iterator[Query]:
        self._deadline = self._simulation.clock.now + life.client.timeout
        yield from asked.queries

    def _late(self, work: Callable[[], Any], life: Life) -> Callable[[], Any]:
        def late() -> Any:
            if life.loop is None:
                life.wait(self._simulation.faults.lateness())
            result = work()
            self._deadline = self._simulation.clock.now + life.client.timeout
            return result

        return late

    def _end(self) -> None:
        self.is_done = True
        self._process.busy_tasks -= 1

    def _failed(self, error: Error, life: Life) -> None:
        simulation, call = self._simulation, self._ended_in_time()
        if not isinstance(error, FAILURES) or isinstance(error, OutcomeUnknown):
            raise error  # an outcome is never forgotten while its call waits
        simulation.require("is damaged" not in str(error), f"{call} failed, and no file is ever damaged here: {error}")
        if isinstance(error, ConnectionError):
            simulation.require(not any(each.heard for each in life.sessions), f"{call} failed: {error}")
        simulation.require(call.invoked < simulation.calm_at, f"{call} failed although nothing was broken: {error}")
        self.lose(f"failed: {type(error).__name__}")

    def _answered(self, wish: Wish, result: Any, life: Life) -> None:
        call = self._ended_in_time()
        self._simulation.history.answer(call, self._checked(call, wish, result, life))
        self._call = None

    def _ended_in_time(self) -> Call:
        assert self._call is not None
        late = self._simulation.clock.now - self._deadline
        if late > LATE_SECONDS_MAX:
            self._simulation.fail(f"{self._call} ended {late:.3f} s after its deadline")
        return self._call

    def _checked(self, call: Call, wish: Wish, result: Any, life: Life) -> Any:
        """The result, if such a call may have it at all."""
        if wish.kind == PAGE:
            call.keys = tuple(key for key in wish.keys if self._worker_of(wish.dict, key, life) == wish.page)
            holds = len(dict(result)) == len(result)
            result = dict(result)
        elif wish.kind == PUT:
            holds = result is True
        elif wish.kind in (PUT_MANY, ADD_MANY, LENGTH):
            least = len(wish.keys) if wish.kind == PUT_MANY else 0
            holds = least <= result <= len(wish.keys)
        else:
            holds = True
        if isinstance(result, dict):
            holds = holds and set(result) <= set(call.keys)
            call.keys = tuple(result) if wish.kind == POP_ANY and result else call.keys
        if not holds:
            self._simulation.fail(f"{call} returned {result!r}")
        return result

    def _worker_of(self, of: str, key: Any, life: Life) -> int:
        roster = life.client.roster
        hash_ = key_hash(life.handles[of].crc, keys.encode(key).data)
        return [worker.hash for worker in roster.workers].index(roster.part_of_slot()[slot_of(hash_)])
