"""With any one safeguard taken out, the simulator finds a violation: it would also find the bug that takes it out.

Each test begins at a seed that is known to find it, and goes on to others should the simulator's chances have changed: to those
in whose scenario the safeguard matters.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from holdall import protocol
from holdall.client.connection.query import Operation, R
from holdall.client.connection.session import Link, Pending, Session
from holdall.framing import Received
from holdall.protocol import Reply, Request
from holdall.worker.core import Worker
from holdall.worker.store.rows import Record
from holdall.worker.store.store import Changes
from tests.simulation import scenario
from tests.simulation.client_process import SimulatedClient
from tests.simulation.disk import Disk
from tests.simulation.scenario import BLOB_LIMITS, Scenario
from tests.simulation.simulation import Cores, Simulation
from tests.simulation.trace import is_batch_reply
from tests.slow import slow_but

SEEDS_MAX = 1_000

Needs = Callable[[Scenario], bool]
"""Whether a safeguard matters in a scenario."""


def any_scenario(_drawn: Scenario) -> bool:
    return True


def power_cuts(drawn: Scenario) -> bool:
    return drawn.sync == "always" and "power cut" in drawn.faults


def kills(drawn: Scenario) -> bool:
    return drawn.sync == "always" and not {"worker killed", "power cut"}.isdisjoint(drawn.faults)


def blobs(drawn: Scenario) -> bool:
    return drawn.limits.items() >= BLOB_LIMITS.items()


def expiry(drawn: Scenario) -> bool:
    return drawn.ttl is not None


def finding_seed(cores: Cores, needs: Needs, first: int) -> int | None:
    """The first of a thousand seeds, from `first` on, that finds something wrong with these cores."""
    for seed in range(first, first + SEEDS_MAX):
        if not needs(scenario.draw(Random(seed))):
            continue
        try:
            Simulation(seed, cores).run()
        except Exception:  # a violation, or a core that breaks down
            return seed
    return None


class ForgetsPuts(Worker):
    """A plain put that is sent again is carried out again."""

    def _once(self, request: Request) -> Reply:
        return self._carried_out(request) if request.opcode == protocol.PUT else super()._once(request)


class ForgetsPops(Worker):
    """A pop that is sent again is carried out again."""

    def _once(self, request: Request) -> Reply:
        return self._carried_out(request) if request.opcode == protocol.POP else super()._once(request)


class NeverSyncs(Worker):
    """What is answered may be lost in a power cut."""

    def __init__(self, store: Any, index: int, workers: int, *, sync: bool, **more: Any) -> None:
        super().__init__(store, index, workers, sync=False, **more)


class NeverTouches(Worker):
    """That an entry is read is not noted."""

    def __init__(self, *numbers: Any, **settings: Any) -> None:
        super().__init__(*numbers, **settings)
        self._transaction.touch = lambda row: True  # type: ignore[method-assign]


class ExpiresEarly(Worker):
    """Entries live for nine tenths of their time."""

    def read(self, messages: Any, now: float, askers: Any = None) -> Any:
        for opened in self._transaction.dicts._opened.values():
            opened.life_ms = opened.row.ttl * 900 if opened.row.ttl is not None else opened.life_ms
        return super().read(messages, now, askers)


class AnswersFirst(Worker):
    """A tick is written at the beginning of the next one."""

    def begin(self, messages: Any, now: float) -> None:
        transaction = self._transaction
        transaction.commit()
        transaction.begin_commit, begin_commit = lambda: None, transaction.begin_commit  # type: ignore[method-assign]
        super().begin(messages, now)
        transaction.begin_commit = begin_commit  # type: ignore[method-assign]


class TellsOfWhatIsBeingWritten(Worker):
    """Who only reads is told of what a kill may still undo."""

    def __init__(self, *numbers: Any, **settings: Any) -> None:
        super().__init__(*numbers, **settings)
        transaction = self._transaction

        def record(row: bytes) -> Record | None:
            pending = {**transaction._in_flight_records, **transaction._records}
            return pending[row] if row in pending else transaction._cache.get(row)

        transaction.record = record  # type: ignore[method-assign]


class TakesAnyAnswer(Session):
    """A reply goes to whoever waits."""

    def receive(self, link: Link | None, received: Received, now: float) -> list[Pending]:
        if self.pending and not is_batch_reply(received.head) and (link is None or link.is_direct):
            head = received.head
            if protocol.parse_reply(head, received.payload).sequence not in self.pending:
                first = next(iter(self.pending)).to_bytes(8, "little")
                received = replace(received, head=head[:4] + first + head[12:])
        return super().receive(link, received, now)


class NeverSendsAgain(Session):
    """What was sent is never sent again, whatever became of it."""

    def _send_again(self, chosen: Any) -> None:
        super()._send_again([each for each in chosen if not each.is_sent])


class GivesTimeAnew(SimulatedClient):
    """A first call has its whole time again once the workers are known."""

    def run(self, operation: Operation[R]) -> R:
        def nothing() -> Operation[None]:
            yield from ()

        super().run(nothing())
        return super().run(operation)


class TearsBatches(Disk):
    """A write that is interrupted may leave a part of its batch."""

    def interrupted_write(self, changes: Changes) -> None:
        rows = sorted(changes.items())  # not as they come: sets among them are in another order in each process
        super(Disk, self).write(dict(rows[: self.random.randint(0, len(rows))]), sync=False)


class SyncsOneLog(Disk):
    """The store is synced in the log that it writes to, and in no other."""

    def sync(self) -> None:
        self.write({}, sync=True)


class NeverLocks(Disk):
    """A worker that was stopped and replaced goes on beside its replacement."""

    def lock(self, process: object) -> bool:
        return True


class LetsPoppedBlobsGo(Worker):
    """The file of a popped blob is removed while its client still has to read it."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        blobs = self._transaction.blobs

        def hand_over(blob_id: bytes, elapsed: float) -> None:
            blobs.let_go(blob_id)
            blobs._files.remove([blob_id])

        blobs.hand_over = hand_over  # type: ignore[method-assign]


class KeepsOrphans(Worker):
    """Files that nothing owns outlive a start."""

    def collect_orphans(self) -> None:
        pass


SAFEGUARDS: dict[str, tuple[Cores, Needs, int]] = {
    "the memory of puts": (Cores(worker=ForgetsPuts), any_scenario, 2),
    "the memory of pops": (Cores(worker=ForgetsPops), any_scenario, 17),
    "the fsync": (Cores(worker=NeverSyncs), power_cuts, 32),
    "the touches": (Cores(worker=NeverTouches), expiry, 81),
    "the last tenth of a ttl": (Cores(worker=ExpiresEarly), expiry, 203),
    "the order of write and answer": (Cores(worker=AnswersFirst), any_scenario, 16),
    "the wait of reads for what is being written": (Cores(worker=TellsOfWhatIsBeingWritten), kills, 4_494),
    "the number check on replies": (Cores(session=TakesAnyAnswer), any_scenario, 0),
    "the transaction flag": (Cores(disk=TearsBatches), any_scenario, 50),
    "the syncs of all logs": (Cores(disk=SyncsOneLog), power_cuts, 36),
    "the lock that fences a woken worker": (Cores(disk=NeverLocks), any_scenario, 0),
    "the hand-over of popped blobs": (Cores(worker=LetsPoppedBlobsGo), blobs, 194),
    "the one deadline of a first call": (Cores(client=GivesTimeAnew), any_scenario, 62),
    "the resends": (Cores(session=NeverSendsAgain), any_scenario, 0),
    "the collecting of orphans": (Cores(worker=KeepsOrphans), blobs, 5),
}


FAR = {"the transaction flag", "the syncs of all logs", "the last tenth of a ttl", "the memory of pops"}
"""Those whose violation takes many seeds to be found anew."""


@pytest.mark.parametrize("safeguard", slow_but({*SAFEGUARDS} - FAR, SAFEGUARDS))
def test_without_a_safeguard_a_violation_is_found(safeguard: str) -> None:
    assert finding_seed(*SAFEGUARDS[safeguard]) is not None
