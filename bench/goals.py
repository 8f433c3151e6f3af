"""The goals: what must be reached, each as a ratio that one run gives.

Both sides of a goal take turns; what counts is the median of the ratios within the rounds. Durability is on at both, and so is
everything that this project always does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from holdall.bench.peers.limits import RELAYED_WORKERS, zmq_echo, zmq_relay
from holdall.bench.peers.ours import holdall_dict
from holdall.bench.peers.redis import redis
from holdall.bench.results import GoalResult
from holdall.bench.rounds import in_turns, median_figure, median_ratio
from holdall.bench.sides import Side, gets_beside_a_writer, importing, latency, starting, tail, throughput
from holdall.bench.workload import NAMED

Relation = Literal["≤", "≥"]


@dataclass(frozen=True)
class Goal:
    """A row: `ours` against `peer` (or alone) must be at most, or at least, `bound`."""

    name: str
    relation: Relation
    bound: float
    ours: Side
    peer: Side | None = None

    @property
    def sides(self) -> list[Side]:
        """Who takes turns."""
        return [self.ours] if self.peer is None else [self.ours, self.peer]

    def met(self, ratio: float) -> bool:
        """Whether this reaches it."""
        return ratio <= self.bound if self.relation == "≤" else ratio >= self.bound


def measure(goal: Goal, rounds: int, seconds: float, advance: Callable[[], None] = lambda: None) -> GoalResult:
    """Let both sides take turns. Raises Missing if the peer cannot take part here."""
    with ExitStack() as stack:
        turns = {side.label: stack.enter_context(side.measured(seconds)) for side in goal.sides}
        taken = in_turns(turns, rounds, advance)
    return verdict(goal, taken)


def verdict(goal: Goal, rounds: list[dict[str, float]]) -> GoalResult:
    """The row, from what both sides gave in each round."""
    ours = median_figure(rounds, goal.ours.label)
    against = goal.peer.label if goal.peer else ""
    peer_figure = median_figure(rounds, against) if against else None
    ratio = median_ratio(rounds, goal.ours.label, against) if against else ours
    names = (goal.name, goal.ours.label, against, goal.ours.unit)
    return GoalResult(*names, ours, peer_figure, ratio, goal.relation, goal.bound, goal.met(ratio))


ALWAYS, INTERVAL = holdall_dict("always"), holdall_dict("interval")
RELAYED = holdall_dict("always", relayed=True, workers=RELAYED_WORKERS)
EVERYSEC, REDIS_ALWAYS = redis("everysec"), redis("always")
GET, PUT, MIXED = NAMED["get"], NAMED["put"], NAMED["mixed"]
GATHER_100, GATHER_1000 = NAMED["gather-100"], NAMED["gather-1000"]
GET_MANY, PUT_MANY = NAMED["get-many"], NAMED["put-many"]

GOALS = (
    Goal("get, one client, p50, interval", "≤", 0.7, latency(INTERVAL, GET), latency(EVERYSEC, GET)),
    Goal("put, one client, p50, interval", "≤", 1.0, latency(INTERVAL, PUT), latency(EVERYSEC, PUT)),
    Goal("get, one client, p50, always", "≤", 0.7, latency(ALWAYS, GET), latency(REDIS_ALWAYS, GET)),
    Goal("put, one client, p50, always", "≤", 1.0, latency(ALWAYS, PUT), latency(REDIS_ALWAYS, PUT)),
    Goal("4 processes, 90/10, interval", "≥", 1.0, throughput(INTERVAL, MIXED), throughput(EVERYSEC, MIXED)),
    Goal("4 processes, 90/10, always", "≥", 1.1, throughput(ALWAYS, MIXED), throughput(REDIS_ALWAYS, MIXED)),
    Goal("gather of 100 gets", "≥", 5.0, throughput(INTERVAL, GATHER_100), throughput(EVERYSEC, GATHER_100)),
    Goal("gather of 1,000 gets", "≥", 6.0, throughput(INTERVAL, GATHER_1000), throughput(EVERYSEC, GATHER_1000)),
    Goal("get_many of 1,000", "≥", 1.0, throughput(INTERVAL, GET_MANY), throughput(EVERYSEC, GET_MANY)),
    Goal("put_many of 100", "≥", 1.5, throughput(INTERVAL, PUT_MANY), throughput(EVERYSEC, PUT_MANY)),
    Goal("get against a bare round trip, p50", "≤", 1.3, latency(INTERVAL, GET), latency(zmq_echo(), GET)),
    Goal("relayed get against a bare relay, p50", "≤", 1.4, latency(RELAYED, GET), latency(zmq_relay(), GET)),
    Goal("relayed gather of 100 gets", "≥", 3.0, throughput(RELAYED, GATHER_100), throughput(EVERYSEC, GATHER_100)),
    Goal("import", "≤", 1.6, importing("import holdall; holdall.Dict"), importing("import zmq")),
    Goal("start of a private service, to its first answer", "≤", 500.0, starting()),
    Goal("get beside a writer of 1 MiB values, p99.9", "≤", 5.0, gets_beside_a_writer(ALWAYS), tail(ALWAYS, GET)),
)
"""The table, in the order in which it is printed."""
