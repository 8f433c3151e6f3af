"""What a seed decides before anything happens: who takes part, and what will go wrong."""

from __future__ import annotations

from random import Random
from typing import Any, Literal, NamedTuple

from tests.simulation.weather import Weather

Sync = Literal["always", "interval", "off"]

KEYS: tuple[Any, ...] = ("a", True, ("b", 1), 2.5)
"""Some whose encoding alone gives them back, some whose object travels along."""

FAULTS = (
    "broker killed",
    "broker stopped",
    "worker killed",
    "worker stopped",
    "power cut",
    "link cut",
    "late messages",
    "doubled messages",
    "full pipes",
    "disk errors",
    "clock jumps",
    "call abandoned",
    "client killed",
    "strangers",
)
CALM_SHARE = 0.08
"""Of the seeds: nothing goes wrong in them, and so no call may fail."""
SMALL_SHARE = 0.25
"""Of the seeds: SMALL_LIMITS hold in them."""

SMALL_LIMITS: dict[str, Any] = {
    "holdall.broker.core.PARKED_REQUESTS_MAX": 5,
    "holdall.broker.core.PARKED_BYTES_MAX": 80_000,
    "holdall.broker.core.PARKED_SECONDS": 2.0,
    "holdall.worker.state.sessions.OUTCOMES_MAX": 6,
    "holdall.worker.state.sessions.OUTCOME_INLINE_BYTES_MAX": 10,
    "holdall.worker.core.BATCH_REPLY_BYTES_MAX": 100,
    "holdall.worker.state.sweeper.STEP_ROWS": 2,
    "holdall.worker.handlers.entries.PAGE_BYTES_MAX": 1_000,
    "holdall.client.operations.many.KEYS_PER_MESSAGE": 1,
    "holdall.client.connection.session.BATCH_REQUESTS_MAX": 3,
}
"""Bounds of the product, made so small that a run reaches them."""


BLOB_SHARE = 0.4
"""Of the seeds: BLOB_LIMITS hold in them."""

BLOB_LIMITS: dict[str, Any] = {
    "holdall.blob.BLOB_BYTES_MIN": 1_000,
    "holdall.blob.CHUNK_BYTES": 10_000,
    "holdall.client.operations.large.WINDOW_CHUNKS": 3,
    "holdall.worker.state.blobs.UPLOAD_IDLE_SECONDS": 5.0,
    "holdall.worker.state.blobs.LENT_SECONDS": 0.1,
    "holdall.worker.state.blobs.COLLECT_MAX": 1,
}
"""Values of some kilobytes are blobs, in several chunks."""


class ClientPlan(NamedTuple):
    """One client. `tasks` above 0: it awaits, so many calls at once, in one loop; 0: it blocks."""

    tasks: int
    timeout: float
    calls: int
    pause_seconds: float
    """How long a task waits between two of its calls, on average."""
    has_lanes: bool = True
    """Whether it is where it can reach workers without the broker."""
    passes_files: bool = True
    """Whether workers may pass open files to it, by a lane."""


class Scenario(NamedTuple):
    """Everything that a seed decides beforehand."""

    sync: Sync
    workers: int
    clients: tuple[ClientPlan, ...]
    dicts: tuple[str, ...]
    keys: tuple[Any, ...]
    faults: tuple[str, ...]
    fault_seconds: float
    """How long it is quiet between two faults, on average."""
    storm_seconds: float
    """After how long the faults end."""
    step_risk: float
    """How likely a worker is struck between two steps of its turn."""
    late: float
    doubled: float
    limits: dict[str, Any]
    set_up: bool
    """Whether the Dicts are there, at every worker, before the faults begin."""
    ttl: float | None
    """How many seconds entries live that nobody uses."""

    def weather(self, random: Random) -> Weather:
        """How the messages of this scenario travel."""
        return Weather(random, self.late, self.doubled)


def draw(random: Random) -> Scenario:
    """A scenario."""
    sync: Sync = random.choices(("always", "interval", "off"), (70, 15, 15))[0]
    calm = random.random() < CALM_SHARE
    faults = tuple(fault for fault in FAULTS if random.random() < 0.5 and not calm)
    small = SMALL_LIMITS if random.random() < SMALL_SHARE else {}
    limits = {**small, **(BLOB_LIMITS if random.random() < BLOB_SHARE else {})}
    clients = tuple(
        ClientPlan(
            tasks=random.choice((0, 0, 2, 3, 8)),
            timeout=random.choice((1.5, 5.0, 12.0, 30.0)) if not small else 30.0,  # it may be refused many times
            calls=random.randint(15, 25),
            pause_seconds=random.choice((0.0, 0.1, 0.4)),
            has_lanes=random.random() < 0.7,
            passes_files=random.random() < 0.6,
        )
        for _ in range(3)
    )
    return Scenario(
        sync=sync,
        workers=random.choice((2, 2, 3)),
        clients=clients,
        dicts=("x", "y")[: random.choice((1, 1, 2))],
        keys=KEYS[: random.randint(2, 4)],
        faults=faults,
        fault_seconds=random.choice((0.2, 0.6, 1.5)),
        storm_seconds=random.uniform(3.0, 10.0),
        step_risk=random.choice((0.0, 0.01, 0.05)),
        late=random.choice((0.01, 0.05, 0.2)) if "late messages" in faults else 0.0,
        doubled=random.choice((0.02, 0.2)) if "doubled messages" in faults else 0.0,
        limits=limits,
        set_up=sync != "always" or random.random() < 0.5,
        ttl=random.choice((None, None, 0.5, 2.0, 6.0)),
    )
