"""A few hundred seeds: whatever fails, what was acknowledged is there, once. `make soak` runs many more."""

from __future__ import annotations

import pytest

from tests.simulation.simulation import Simulation

CHUNKS, CHUNK_SEEDS = 10, 30


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_finds_a_violation(chunk: int) -> None:
    checked = 0
    for seed in range(chunk * CHUNK_SEEDS, (chunk + 1) * CHUNK_SEEDS):
        simulation = Simulation(seed)
        simulation.run()
        checked += len(simulation.history.calls)
    assert checked > CHUNK_SEEDS * 40


def test_a_seed_runs_alike_each_time() -> None:
    first, second = Simulation(7), Simulation(7)
    first.run()
    second.run()
    assert [str(call) for call in first.history.calls] == [str(call) for call in second.history.calls]
