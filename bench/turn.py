"""What came of one turn: a peer, a workload, a second."""

from __future__ import annotations

from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram

from holdall.bench import latencies
from holdall.bench.resources import Use, cpu_seconds

MICRO = 1_000_000


@dataclass(frozen=True)
class Length:
    """How long a turn is: so many seconds; with `rate`, an open loop with so many calls a second in all."""

    seconds: float
    rate: float | None = None


@dataclass(frozen=True)
class Part:
    """What one client process did in it."""

    histogram: bytes
    calls: int
    started: int
    ended: int
    """On the clock that all processes have in common, in nanoseconds."""
    cpu_seconds: float


@dataclass(frozen=True)
class Turn:
    """All client processes together."""

    parts: list[Part]
    operations_per_call: int
    servers_before: list[Use]
    servers_after: list[Use]
    histogram: HdrHistogram = field(init=False)

    def __post_init__(self) -> None:
        merged = latencies.histogram()
        for part in self.parts:
            merged.decode_and_add(part.histogram)
        object.__setattr__(self, "histogram", merged)

    @property
    def operations(self) -> int:
        """Entries read or written."""
        return sum(part.calls for part in self.parts) * self.operations_per_call

    @property
    def ended(self) -> int:
        """When the last call ended, in nanoseconds."""
        return max(part.ended for part in self.parts)

    @property
    def rate(self) -> float:
        """Operations in a second, from the first call to the end of the last."""
        nanoseconds = self.ended - min(part.started for part in self.parts)
        return self.operations * 10**9 / nanoseconds

    def figures(self) -> dict[str, float]:
        """All that is reported, by name; times in microseconds."""
        percentiles = {
            f"p{percentile:g}": latencies.microseconds(self.histogram, percentile) for percentile in (50, 90, 99, 99.9)
        }
        client = sum(part.cpu_seconds for part in self.parts)
        return {
            **percentiles,
            "max": self.histogram.get_max_value() / 1_000,
            "rate": self.rate,
            "client µs": client * MICRO / self.operations,
            "server µs": cpu_seconds(self.servers_before, self.servers_after) * MICRO / self.operations,
            "server MiB": sum(use.peak_mib for use in self.servers_after),
        }
