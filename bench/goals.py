"""The goals: what must be reached, each as a ratio that one run gives.

Both sides of a goal take turns; what counts is the median of the ratios within the rounds. Durability is on at both, and so is
everything that this project always does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from holdall.bench.encodings import DOCUMENT, PAIRS, SMALL, pickled, plain
from holdall.bench.peers.limits import RELAYED_WORKERS, plain_files, zmq_echo, zmq_relay
from holdall.bench.peers.ours import holdall_dict
from holdall.bench.peers.peer import Missing
from holdall.bench.peers.redis import redis
from holdall.bench.results import GoalResult
from holdall.bench.rounds import in_turns, median_figure, median_ratio
from holdall.bench.sides import Side, converting, gets_beside_a_writer, idling, importing, latency, starting, tail, throughput
from holdall.bench.workload import NAMED

Relation = Literal["≤", "≥"]


@dataclass(frozen=True)
class Goal:
    """A row: `ours` against `peer`, or alone, must be at most, or at least, `bound`; `slow_bound`, if any, in a slow phase."""

    name: str
    relation: Relation
    bound: float
    ours: Side
    peer: Side | None = None
    slow_bound: float | None = None

    @property
    def sides(self) -> list[Side]:
        """Who takes turns."""
        return [self.ours] if self.peer is None else [self.ours, self.peer]

    def bound_in(self, *, slow: bool) -> float:
        """What is wanted in this phase."""
        return self.bound if self.slow_bound is None or not slow else self.slow_bound


def redis_get(seconds: float) -> float | None:
    """What tells the phase: how many microseconds a get of Redis takes; None without Redis."""
    try:
        with latency(EVERYSEC, GET).measured(seconds) as turn:
            return turn()
    except Missing:
        return None


def measure(
    goal: Goal, rounds: int, seconds: float, advance: Callable[[], None] = lambda: None, *, slow: bool = False
) -> GoalResult:
    """Let both sides take turns. Raises Missing if the peer cannot take part here."""
    with ExitStack() as stack:
        turns = {side.label: stack.enter_context(side.measured(seconds)) for side in goal.sides}
        taken = in_turns(turns, rounds, advance)
    return verdict(goal, taken, slow=slow)


def verdict(goal: Goal, rounds: list[dict[str, float]], *, slow: bool = False) -> GoalResult:
    """The row, from what both sides gave in each round."""
    ours = median_figure(rounds, goal.ours.label)
    against = goal.peer.label if goal.peer else ""
    peer_figure = median_figure(rounds, against) if against else None
    ratio = median_ratio(rounds, goal.ours.label, against) if against else ours
    bound = goal.bound_in(slow=slow)
    met = ratio <= bound if goal.relation == "≤" else ratio >= bound
    return GoalResult(goal.name, goal.ours.label, against, goal.ours.unit, ours, peer_figure, ratio, goal.relation, bound, met)


ALWAYS, INTERVAL = holdall_dict("always"), holdall_dict("interval")
RELAYED = holdall_dict("always", relayed=True, workers=RELAYED_WORKERS)
EVERYSEC, REDIS_ALWAYS = redis("everysec"), redis("always")
GET, PUT, MIXED = NAMED["get"], NAMED["put"], NAMED["mixed"]
GATHER_100, GATHER_1000 = NAMED["gather-100"], NAMED["gather-1000"]
GET_MANY, PUT_MANY = NAMED["get-many"], NAMED["put-many"]

GET_1M, PUT_1M, GET_100M, PUT_100M = NAMED["get-1m"], NAMED["put-1m"], NAMED["get-100m"], NAMED["put-100m"]
ARRAYS, FILES = NAMED["arrays"], plain_files()

GOALS = (
    Goal("get, one client, p50, interval", "≤", 0.7, latency(INTERVAL, GET), latency(EVERYSEC, GET)),
    Goal("put, one client, p50, interval", "≤", 1.0, latency(INTERVAL, PUT), latency(EVERYSEC, PUT), 1.5),
    Goal("get, one client, p50, always", "≤", 0.7, latency(ALWAYS, GET), latency(REDIS_ALWAYS, GET)),
    Goal("put, one client, p50, always", "≤", 1.0, latency(ALWAYS, PUT), latency(REDIS_ALWAYS, PUT), 1.5),
    Goal("4 processes, 90/10, interval", "≥", 1.0, throughput(INTERVAL, MIXED), throughput(EVERYSEC, MIXED), 0.8),
    Goal("4 processes, 90/10, always", "≥", 1.1, throughput(ALWAYS, MIXED), throughput(REDIS_ALWAYS, MIXED), 0.8),
    Goal("gather of 100 gets", "≥", 5.0, throughput(INTERVAL, GATHER_100), throughput(EVERYSEC, GATHER_100)),
    Goal("gather of 1,000 gets", "≥", 6.0, throughput(INTERVAL, GATHER_1000), throughput(EVERYSEC, GATHER_1000)),
    Goal("get_many of 1,000", "≥", 1.0, throughput(INTERVAL, GET_MANY), throughput(EVERYSEC, GET_MANY), 0.7),
    Goal("put_many of 100", "≥", 1.5, throughput(INTERVAL, PUT_MANY), throughput(EVERYSEC, PUT_MANY)),
    Goal("get against a bare round trip, p50", "≤", 1.3, latency(INTERVAL, GET), latency(zmq_echo(), GET)),
    Goal("relayed get against a bare relay, p50", "≤", 1.4, latency(RELAYED, GET), latency(zmq_relay(), GET), 1.6),
    Goal("relayed gather of 100 gets", "≥", 3.0, throughput(RELAYED, GATHER_100), throughput(EVERYSEC, GATHER_100)),
    Goal("1 MiB put, p50, always", "≤", 1.0, latency(ALWAYS, PUT_1M), latency(REDIS_ALWAYS, PUT_1M)),
    Goal("1 MiB get, p50", "≤", 1.0, latency(ALWAYS, GET_1M), latency(REDIS_ALWAYS, GET_1M)),
    Goal("5 MiB arrays, half put", "≥", 1.0, throughput(ALWAYS, ARRAYS), throughput(REDIS_ALWAYS, ARRAYS)),
    Goal("100 MiB put against a plain file, p50", "≤", 2.5, latency(ALWAYS, PUT_100M), latency(FILES, PUT_100M)),
    Goal("100 MiB get against a plain file, p50", "≤", 2.5, latency(ALWAYS, GET_100M), latency(FILES, GET_100M)),
    Goal("get beside puts of 1 MiB, p99.9", "≤", 5.0, gets_beside_a_writer(ALWAYS, PUT_1M, 99.9), tail(ALWAYS, GET, 99.9)),
    Goal("get beside puts of 100 MiB, p99", "≤", 3.0, gets_beside_a_writer(ALWAYS, PUT_100M, 99), tail(ALWAYS, GET, 99)),
    Goal("100 bytes to a plain value and back", "≤", 1.1, converting(plain, SMALL), converting(pickled, SMALL)),
    Goal("a nested dict to plain data and back", "≤", 8.0, converting(plain, DOCUMENT), converting(pickled, DOCUMENT)),
    Goal("20 tuples to plain data and back", "≤", 8.0, converting(plain, PAIRS), converting(pickled, PAIRS)),
    Goal("import", "≤", 1.6, importing("import holdall; holdall.Dict"), importing("import zmq")),
    Goal("start of a private service, to its first answer", "≤", 500.0, starting()),
    Goal("CPU of an idle service and client", "≤", 0.1, idling(ALWAYS)),
)
"""The table, in the order in which it is printed. Growth has its own command: `holdall bench scaling entries`."""
