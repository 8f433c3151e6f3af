"""A few hundred seeds: whatever fails, what was acknowledged is there, once. `make soak` runs many more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.simulation import Simulation
from tests.slow import slow_but

ROOT = Path(__file__).parents[2]
CHUNK_SEEDS = 25
CHUNKS = 20


@pytest.mark.parametrize("chunk", slow_but([0], range(CHUNKS)))
def test_no_seed_finds_a_violation(chunk: int) -> None:
    checked = 0
    for seed in range(chunk * CHUNK_SEEDS, (chunk + 1) * CHUNK_SEEDS):
        simulation = Simulation(seed)
        simulation.run()
        checked += len(simulation.history.calls)
    assert checked > CHUNK_SEEDS * 40


def test_a_seed_runs_alike_in_every_process() -> None:
    command = [sys.executable, "-m", "tests.simulation.run", "--seed", "7", "--trace"]
    told = [
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, check=True).stdout
        for seed in "12"
    ]
    assert told[0] == told[1]
    assert b"seed 7 holds" in told[0]
