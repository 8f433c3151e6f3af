"""What was measured, as it is kept in JSON and shown in tables and on the page. Times without a unit are microseconds."""

from __future__ import annotations

from typing import Union

import msgspec

SLOW_MICROSECONDS = 50.0
"""When a get of Redis takes longer, the machine is in a slow phase: it wakes a process later, and interpreted code loses more
by that than a server in C.
"""

Points = list[tuple[float, float]]


class Machine(msgspec.Struct, frozen=True):
    """What it was measured on."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    disk: str
    python: str
    versions: dict[str, str]


class GoalResult(msgspec.Struct, frozen=True):
    """A row of the table of goals. A `ratio` of a goal without a peer is the figure itself."""

    name: str
    ours: str
    against: str
    unit: str
    figure: float
    peer_figure: Union[float, None]
    ratio: float
    relation: str
    bound: float
    met: bool


class ComparedPeer(msgspec.Struct, frozen=True):
    """One peer in a workload: the median over the rounds of each figure, and the curve of the latencies of all rounds."""

    peer: str
    figures: dict[str, float]
    latency_ratio: Union[float, None]
    rate_ratio: Union[float, None]
    curve: Points


class Comparison(msgspec.Struct, frozen=True):
    """One workload at all peers that take part; the others, and why not."""

    workload: str
    description: str
    rounds: int
    asked_rate: Union[float, None]
    peers: list[ComparedPeer]
    left_out: dict[str, str]


class Scaling(msgspec.Struct, frozen=True):
    """A curve for each peer, and the same as a table."""

    title: str
    x: str
    y: str
    lines: dict[str, Points]
    columns: list[str]
    rows: list[list[str]]
    left_out: dict[str, str] = {}


class Report(msgspec.Struct, frozen=True):
    """All that one command measured."""

    machine: Machine
    date: str
    goals: list[GoalResult] = []
    comparisons: list[Comparison] = []
    scalings: list[Scaling] = []
    left_out: dict[str, str] = {}
    """Goals that could not be measured here, and what to install."""
    redis_get: Union[float, None] = None
    """Microseconds of a get of Redis when the goals were measured: it tells whether the machine was in a slow phase."""


def encode(report: Report) -> bytes:
    """As JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2)


def decode(data: bytes) -> Report:
    """From JSON. Raises msgspec.ValidationError if it is no report."""
    return msgspec.json.decode(data, type=Report)


def joined(reports: list[Report]) -> Report:
    """Several as one; the machine and date are those of the last."""
    return Report(
        reports[-1].machine,
        reports[-1].date,
        [goal for report in reports for goal in report.goals],
        [comparison for report in reports for comparison in report.comparisons],
        [scaling for report in reports for scaling in report.scalings],
        {goal: reason for report in reports for goal, reason in report.left_out.items()},
        next((report.redis_get for report in reports if report.redis_get is not None), None),
    )
