"""A program's thread or task: it makes its calls one after another, now and then gives one up, and records what it saw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from holdall import keys, protocol
from holdall.bodies import Roster, decode
from holdall.client.ask import Ask, Operation
from holdall.client.client import CONNECT_SECONDS
from holdall.errors import ConnectionError, Error, OutcomeUnknown, StorageError, TimeoutError
from holdall.slots import key_hash, slot_of
from tests.simulation.history import ADD_MANY, LENGTH, PAGE, POP_ANY, PUT_MANY, Call
from tests.simulation.line import Run
from tests.simulation.linearizability import PUT
from tests.simulation.workload import Wish

if TYPE_CHECKING:
    from tests.simulation.client_process import ClientProcess
    from tests.simulation.simulation import Simulation

LATE_SECONDS_MAX = 1.0
"""By how much a call may overrun its deadline: a line looks four times a second, a blocking one after so long a silence."""
FAILURES = (TimeoutError, ConnectionError, StorageError)
"""What a call may end in while something is broken; whether it happened is unknown then."""


class Task:
    """Makes the calls in `wishes`."""

    def __init__(self, simulation: Simulation, client: ClientProcess, wishes: Iterator[Wish], pause_seconds: float) -> None:
        self._simulation = simulation
        self._client = client
        self._wishes = wishes
        self._pause_seconds = pause_seconds
        self._call: Call | None = None
        self._run: Run | None = None
        client.busy_tasks += 1
        self._later()

    def lose(self, why: str) -> None:
        """The call that is under way, if one is, is over, and nobody knows what became of it."""
        if self._call is not None:
            self._simulation.history.lose(self._call, why)
            self._call = self._run = None
            self._later()

    def _later(self) -> None:
        pause = self._pause_seconds
        self._simulation.clock.call_in(self._simulation.random.expovariate(1 / pause) if pause else 0.0, self._next)

    def _next(self) -> None:
        wish = next(self._wishes, None)
        if wish is None:
            self._client.busy_tasks -= 1
            return
        simulation = self._simulation
        call = self._call = simulation.history.invoke(self._client.name, *wish[:4])
        seconds = simulation.faults.abandonment()
        if seconds is not None:
            simulation.clock.call_in(seconds, self._abandon, call)
        if self._client.known_roster is None:
            self._start(_roster(), CONNECT_SECONDS, lambda result, error: self._met(call, wish, result, error))
        else:
            self._start_call(call, wish)

    def _met(self, call: Call, wish: Wish, roster: Roster | None, error: Error | None) -> None:
        if error is None:
            self._client.known_roster = roster
            self._start_call(call, wish)
        else:
            self._end(call, wish, None, error)

    def _start_call(self, call: Call, wish: Wish) -> None:
        operation = wish.operation(self._client.handles[wish.dict])
        self._start(operation, self._client.timeout, lambda result, error: self._end(call, wish, result, error))

    def _start(self, operation: Operation[Any], seconds: float, done: Any) -> None:
        self._run = Run(operation, self._simulation.clock.now, min(seconds, self._client.timeout), done)
        self._client.line.start(self._run)

    def _abandon(self, call: Call) -> None:
        if self._call is call and self._run is not None:
            self._client.line.abandon(self._run)
            self.lose("was abandoned")

    def _end(self, call: Call, wish: Wish, result: Any, error: Error | None) -> None:
        simulation, run = self._simulation, self._run
        assert run is not None
        late = simulation.clock.now - run.deadline
        if late > LATE_SECONDS_MAX:
            simulation.fail(f"{call} ended {late:.3f} s after its deadline")
        if error is None:
            simulation.history.answer(call, self._checked(call, wish, result))
            self._call = self._run = None
            self._later()
            return
        if not isinstance(error, FAILURES) or isinstance(error, OutcomeUnknown):
            raise error  # an outcome is never forgotten while its call waits
        simulation.require("is damaged" not in str(error), f"{call} failed, and no file is ever damaged here: {error}")
        if isinstance(error, ConnectionError):
            simulation.require(not self._client.line.heard, f"{call} failed: {error}")
        simulation.require(call.invoked < simulation.calm_at, f"{call} failed although nothing was broken: {error}")
        self.lose(f"failed: {type(error).__name__}")

    def _checked(self, call: Call, wish: Wish, result: Any) -> Any:
        """The result, if such a call may have it at all."""
        if wish.kind == PAGE:
            call.keys = tuple(key for key in wish.keys if self._worker_of(wish.dict, key) == wish.page)
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

    def _worker_of(self, of: str, key: Any) -> int:
        hash_ = key_hash(self._client.handles[of].crc, keys.encode(key).data)
        parts = [worker.hash for worker in self._client.roster.workers]
        return parts.index(self._client.roster.part_of_slot()[slot_of(hash_)])


def _roster() -> Operation[Roster]:
    reply = yield Ask(protocol.ROSTER, 0, "reach", "the service")
    return decode(Roster, reply.payload)
