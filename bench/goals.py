"""The goals: what must be reached, each as a ratio that one run gives.

Both sides of a goal take turns; what counts is the median of the ratios within the rounds. Durability is on at both, and so is
everything that this project always does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from holdall.bench.beginnings import import_milliseconds, start_milliseconds
from holdall.bench.peers import holdall_dict, redis, zmq_echo
from holdall.bench.results import GoalResult
from holdall.bench.rounds import in_turns, median_figure, median_ratio
from holdall.bench.sides import Side, beginning, gets_beside_a_writer, latency, tail, throughput
from holdall.bench.workload import NAMED

Relation = Literal["≤", "≥"]
ROUNDS_OF_BEGINNINGS_MIN = 7
"""Of what is not a call but happens once in a process: an import, a start."""


@dataclass(frozen=True)
class Goal:
    """A row: `ours` against `peer` (or alone) must be at most, or at least, `bound`."""

    name: str
    unit: str
    relation: Relation
    bound: float
    ours: Side
    peer: Side | None = None
    rounds_min: int = 1

    def turns(self, rounds: int, *, quick: bool = False) -> int:
        """How many turns both sides together take."""
        return self.rounds(rounds, quick=quick) * (1 if self.peer is None else 2)

    def rounds(self, asked: int, *, quick: bool = False) -> int:
        """How many rounds: an import and a start want more of them, unless nobody minds the figures."""
        return asked if quick else max(asked, self.rounds_min)

    def met(self, ratio: float) -> bool:
        """Whether this reaches it."""
        return ratio <= self.bound if self.relation == "≤" else ratio >= self.bound


def measure(
    goal: Goal, rounds: int, seconds: float, advance: Callable[[], None] = lambda: None, *, quick: bool = False
) -> GoalResult:
    """Let both sides take turns. Raises Missing if the peer cannot take part here."""
    sides = {side.label: side for side in (goal.ours, goal.peer) if side is not None}
    with ExitStack() as stack:
        turns = {label: stack.enter_context(side.measured(seconds)) for label, side in sides.items()}
        taken = in_turns(turns, goal.rounds(rounds, quick=quick), advance)
    return verdict(goal, taken)


def verdict(goal: Goal, rounds: list[dict[str, float]]) -> GoalResult:
    """The row, from what both sides gave in each round."""
    ours = median_figure(rounds, goal.ours.label)
    against = goal.peer.label if goal.peer else ""
    peer_figure = median_figure(rounds, against) if against else None
    ratio = median_ratio(rounds, goal.ours.label, against) if against else ours
    names = (goal.name, goal.ours.label, against, goal.unit)
    return GoalResult(*names, ours, peer_figure, ratio, goal.relation, goal.bound, goal.met(ratio))


ALWAYS, INTERVAL = holdall_dict("always"), holdall_dict("interval")
ALWAYS_RELAYED = holdall_dict("always", relayed=True)
REDIS_ALWAYS, REDIS_EVERYSEC = redis("always"), redis("everysec")
GET, PUT, MIXED = NAMED["get"], NAMED["put"], NAMED["mixed"]
GATHER, GATHER0 = NAMED["gather-100"], NAMED["gather-1000"]
GET_MANY, PUT_MANY = NAMED["get-many"], NAMED["put-many"]
US, RATE, MS = "µs", "ops/s", "ms"
_P50 = "one client, p50"

GOALS = (
    Goal(f"get, {_P50}, interval", US, "≤", 1.0, latency(INTERVAL, GET), latency(REDIS_EVERYSEC, GET)),
    Goal(f"put, {_P50}, interval", US, "≤", 1.0, latency(INTERVAL, PUT), latency(REDIS_EVERYSEC, PUT)),
    Goal(f"get, {_P50}, always", US, "≤", 1.0, latency(ALWAYS, GET), latency(REDIS_ALWAYS, GET)),
    Goal(f"put, {_P50}, always", US, "≤", 1.0, latency(ALWAYS, PUT), latency(REDIS_ALWAYS, PUT)),
    Goal("4 processes, 90/10, interval", RATE, "≥", 1.0, throughput(INTERVAL, MIXED), throughput(REDIS_EVERYSEC, MIXED)),
    Goal("4 processes, 90/10, always", RATE, "≥", 1.2, throughput(ALWAYS, MIXED), throughput(REDIS_ALWAYS, MIXED)),
    Goal("gather of 100 gets", RATE, "≥", 6.0, throughput(INTERVAL, GATHER), throughput(REDIS_EVERYSEC, GATHER)),
    Goal("gather of 1,000 gets", RATE, "≥", 8.0, throughput(INTERVAL, GATHER0), throughput(REDIS_EVERYSEC, GATHER0)),
    Goal("get_many of 1,000", RATE, "≥", 1.0, throughput(INTERVAL, GET_MANY), throughput(REDIS_EVERYSEC, GET_MANY)),
    Goal("put_many of 100", RATE, "≥", 2.5, throughput(INTERVAL, PUT_MANY), throughput(REDIS_EVERYSEC, PUT_MANY)),
    Goal("a get against a bare round trip, p50", US, "≤", 1.3, latency(INTERVAL, GET), latency(zmq_echo(), GET)),
    Goal("relayed against direct, get, p50", US, "≤", 2.0, latency(ALWAYS_RELAYED, GET), latency(ALWAYS, GET)),
    Goal(
        "relayed against direct, gather of 100",
        RATE,
        "≥",
        0.6,
        throughput(ALWAYS_RELAYED, GATHER),
        throughput(ALWAYS, GATHER),
    ),
    Goal(
        "import",
        MS,
        "≤",
        1.6,
        beginning("import holdall; holdall.Dict", lambda: import_milliseconds("import holdall; holdall.Dict")),
        beginning("import zmq", lambda: import_milliseconds("import zmq")),
        ROUNDS_OF_BEGINNINGS_MIN,
    ),
    Goal(
        "start of a private service, to the first answer",
        MS,
        "≤",
        500.0,
        beginning("LocalService", start_milliseconds),
        None,
        3,
    ),
    Goal("get beside a writer of 1 MiB values, p99.9", US, "≤", 5.0, gets_beside_a_writer(ALWAYS), tail(ALWAYS, GET)),
)
"""The table, in the order in which it is printed."""
