"""Which entries a workload reads and writes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from holdall.bench import sampling
from holdall.bench.workload import NAMED, Distribution

DRAWS = 100_000


@pytest.mark.parametrize("distribution", ["uniform", "zipf"])
def test_draws_are_entries_and_the_same_for_the_same_seed(distribution: Distribution) -> None:
    drawn = sampling.numbers(distribution, 50, DRAWS, seed=1)
    assert {*drawn} == {*range(50)}
    assert drawn == sampling.numbers(distribution, 50, DRAWS, seed=1)
    assert drawn != sampling.numbers(distribution, 50, DRAWS, seed=2)


def test_uniform_draws_favour_no_entry() -> None:
    counts = Counter(sampling.numbers("uniform", 50, DRAWS, seed=1))
    assert max(counts.values()) < 1.2 * min(counts.values())


def test_zipf_draws_fall_off_with_the_exponent() -> None:
    counts = Counter(sampling.numbers("zipf", 1_000, DRAWS, seed=1))
    for rank in (1, 9, 99):
        expected = (rank + 1) ** sampling.ZIPF_EXPONENT
        assert counts[0] / counts[rank] == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("share", [0.0, 0.9, 1.0])
def test_the_read_share_is_that_of_the_calls(share: float) -> None:
    calls = sampling.single_calls(replace(NAMED["mixed"], read_share=share), seed=0)
    assert sum(reads for reads, _ in calls) / len(calls) == pytest.approx(share, abs=0.01)


def test_the_keys_of_a_batch_are_all_different() -> None:
    for keys in sampling.batches(NAMED["gather-1000"], seed=0):
        assert len({*keys}) == 1_000


def test_filling_puts_every_entry_once_in_batches_of_bounded_size() -> None:
    workload = replace(NAMED["get-1m"], entries=10)
    filled = [*sampling.fills(workload)]
    assert [key for batch in filled for key in batch] == [workload.key(number) for number in range(10)]
    assert max(sum(map(len, batch.values())) for batch in filled) <= sampling.FILL_BYTES


def test_named_workloads_are_described_and_can_be_drawn() -> None:
    for name, workload in NAMED.items():
        assert workload.name == name
        assert workload.description.endswith(".")
        assert workload.operations_per_call <= workload.entries
