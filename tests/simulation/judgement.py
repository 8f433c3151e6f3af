"""What must be true of the history of a run, whatever went wrong in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any
from zlib import crc32

from holdall import keys
from holdall.blob import Reference, is_reference, reference_of
from holdall.slots import key_hash, slot_of, slot_range
from holdall.worker.store import rows
from holdall.worker.store.rows import ENTRY_PREFIX, TOUCH_PREFIX
from tests.simulation.expiry import expiries
from tests.simulation.history import LAST_LOOK, LENGTH, PAGE, Call, Place, operations_of, shorten, told_of
from tests.simulation.linearizability import ABSENT, ADD, CONTAINS, EXPIRE, GET, POP, REMOVE, UNSEEN, Operation, is_linearizable

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation
    from tests.simulation.worker_process import Machine


def judge(simulation: Simulation) -> None:
    """Raise Violation for the first thing that is not true."""
    simulation.broker.check()
    _nothing_is_under_way(simulation)
    _the_last_look_agrees_with_itself(simulation)
    for machine in simulation.machines:
        _every_blob_has_one_owner(simulation, machine)
    calls = simulation.history.calls
    for place, operations in operations_of(calls).items():
        machine = _machine_of(simulation, place)
        lost_at = inf if machine.cut_at is None else machine.cut_at
        wrong = what_is_wrong(place, operations + expiries(simulation, place, machine), lost_at=lost_at)
        if wrong:
            simulation.fail(f"{wrong}:\n{told_of(calls, place)}")


def what_is_wrong(place: Place, operations: list[Operation], *, lost_at: float = inf) -> str:
    """What cannot be true of these operations on one key, which was absent at first; nothing if they can be explained.

    `lost_at` is when answered writes may have been lost, as they may be in a power cut where not every write is synced.
    """
    seen = [_as_known_at(lost_at, each) for each in operations if each.invoked < lost_at]
    wrong = _value_from_nowhere(place, operations) or (lost_at == inf and _what_happened_twice(place, operations))
    if not wrong and not is_linearizable(seen):
        wrong = f"what happened to {place[1]!r} in {place[0]} cannot have happened"
    return wrong or ""


def _nothing_is_under_way(simulation: Simulation) -> None:
    broker = simulation.broker.broker
    simulation.require(broker is not None and not broker._parked, "requests are parked although every worker is there")
    for call in simulation.history.calls:
        if call.ended == inf:
            simulation.fail(f"{call} never ended")


def _the_last_look_agrees_with_itself(simulation: Simulation) -> None:
    if simulation.scenario.ttl is not None:
        return  # an entry may expire while it lasts
    calls = [call for call in simulation.history.calls if call.client == LAST_LOOK]
    for of in simulation.scenario.dicts:
        about = [call for call in calls if call.dict == of]
        got = _present(about, GET, lambda value: value is not ABSENT)
        contained = _present(about, CONTAINS, bool)
        paged = {key: value for call in about if call.kind == PAGE for key, value in call.result.items()}
        lengths = [call.result for call in about if call.kind == LENGTH]
        simulation.require(contained.keys() == got.keys(), f"{of} contains {[*contained]}, and get finds {[*got]}")
        simulation.require(paged == got, f"the pages of {of} have {[*paged]}, and get finds {[*got]}")
        simulation.require(lengths == [len(got)], f"the length of {of} is {lengths}, and get finds {[*got]}")


def nothing_is_left(simulation: Simulation, look: str) -> None:
    """Raise Violation if something is there although nobody has used anything for so long that all has expired."""
    for call in simulation.history.calls:
        if call.client == look and call.result not in (ABSENT, False, 0, {}):
            simulation.fail(f"{call} found {call.result!r} after nobody had used it for its ttl")
    for machine in simulation.machines:
        left = [row for row, _data in machine.store.scan(b"") if row[:1] in (ENTRY_PREFIX, TOUCH_PREFIX)]
        simulation.require(not left, f"the rows {left} of {machine.name} have not been swept")


def _every_blob_has_one_owner(simulation: Simulation, machine: Machine) -> None:
    disk = machine.disk
    found = list(machine.store.scan(b""))
    owned = {row[1:]: data for row, data in found if row[:1] == rows.BLOB_PREFIX}
    values = [rows.parse_record(row, data).value for row, data in found if row[:1] == rows.ENTRY_PREFIX]
    owners = Counter(reference_of(value).id for value in values if is_reference(value))
    owners.update(row[1:] for row, _data in found if row[:1] == rows.HANDED_PREFIX)
    agree = owners == Counter(owned.keys())
    simulation.require(agree, f"the blobs of {machine.name} are owned by {owners}, and there are {[*owned]}")
    files: set[bytes] = set()
    for blob_id, row in owned.items():
        reference = rows.unpack_blob(rows.BLOB_PREFIX + blob_id, row)
        data = disk.files.named.get(blob_id, b"")
        whole = reference == Reference(blob_id, len(data), crc32(data))
        simulation.require(whole, f"blob {blob_id.hex()} of {machine.name} is missing or torn")
        files.add(blob_id)
    disk.files.die()
    again = simulation.cores.worker(machine.store, machine.index, simulation.scenario.workers, sync=True, files=disk.files)
    again.collect_orphans()
    simulation.require(set(disk.files.names()) == files, f"files of {machine.name} without an owner outlive a start")


def _present(calls: list[Call], kind: str, test: Callable[[Any], bool]) -> dict[Any, Any]:
    return {call.keys[0]: call.result for call in calls if call.kind == kind and test(call.result)}


def _machine_of(simulation: Simulation, place: Place) -> Machine:
    """Where this key is kept."""
    of, key = place
    slot = slot_of(key_hash(simulation.crc_of(of), keys.encode(key).data))
    ranges = [slot_range(machine.index, simulation.scenario.workers) for machine in simulation.machines]
    return next(machine for machine, (first, end) in zip(simulation.machines, ranges, strict=True) if first <= slot < end)


def _as_known_at(time: float, operation: Operation) -> Operation:
    """What could be known of an operation at that time."""
    return operation if operation.returned <= time else operation._replace(result=UNSEEN, returned=inf)


def _value_from_nowhere(place: Place, operations: list[Operation]) -> str:
    written = {each.argument: each.invoked for each in operations if each.argument is not None and each.kind != EXPIRE}
    for each in operations:
        read = each.kind in (GET, POP) and each.result not in (ABSENT, UNSEEN)
        if read and written.get(each.result, inf) > each.returned:
            return f"{shorten(each.result)} was not stored under {place[1]!r} in {place[0]} before it was read"
    return ""


def _what_happened_twice(place: Place, operations: list[Operation]) -> str:
    popped = Counter(each.result for each in operations if each.kind == POP and each.result not in (ABSENT, UNSEEN))
    for value, times in popped.items():
        if times > 1:
            return f"{shorten(value)} was popped {times} times"
    won = sum(each.kind == ADD and each.result is True for each in operations)
    removed = sum(each.kind in (POP, REMOVE, EXPIRE) and each.result not in (ABSENT, False) for each in operations)
    return "" if won <= removed + 1 else f"{place[1]!r} in {place[0]} was added {won} times, and removed at most {removed}"
