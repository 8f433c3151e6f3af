"""When an entry may have expired, as far as its users can know: an event that may only happen in its window.

Values are all different, so whoever sees one uses that very entry: it cannot have expired before a `ttl` has passed since that
call began. The store's own clock never runs faster than time does, but for wall clocks that were set forward; a use that was
only noted may be forgotten in a power cut, or for want of room. Then the window is wider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.history import PAGE, Place
from tests.simulation.linearizability import ABSENT, EXPIRE, GET, UNSEEN, Operation

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation
    from tests.simulation.worker_process import Machine


def expiries(simulation: Simulation, place: Place, machine: Machine) -> list[Operation]:
    """For each value that was stored here, that it expires, if it does."""
    ttl = simulation.scenario.ttl
    if ttl is None:
        return []
    stored: dict[str, float] = {}
    used: dict[str, float] = {}
    for call in simulation.history.calls:
        for where, operation in call.operations():
            if where != place:
                continue
            if operation.argument is not None:
                stored[operation.argument] = operation.invoked
            elif operation.kind == GET and call.kind != PAGE and operation.result not in (ABSENT, UNSEEN):
                used[operation.result] = max(operation.invoked, used.get(operation.result, 0.0))
    windows: list[Operation] = []
    for value, invoked in stored.items():
        earliest = ttl + (invoked if machine.forgets_touches else max(invoked, used.get(value, 0.0)))
        if machine.set_forward_at is not None:
            earliest = min(earliest, max(invoked, machine.set_forward_at))
        windows.append(Operation(EXPIRE, value, UNSEEN, earliest))
    return windows
